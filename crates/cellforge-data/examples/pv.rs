//! scratch
use cellforge_data::phantom::*;
fn main() {
    let t = std::time::Instant::now();
    let c = PhantomConfig { side: 64, cells_per_class: 1500, patients: 60, seed: 3 };
    let s = render(&c).unwrap();
    eprintln!("{:?} {}", t.elapsed(), s.len());
    let mut im = image::RgbImage::new(12 * 66, 6 * 66);
    for class in 0..2u32 { let ix = s.class_indices(class); for k in 0..36usize {
        let i = ix[(k * 41 + 7) % ix.len()]; let (r, q) = (k / 12 + class as usize * 3, k % 12);
        for p in 0..4096 { let o = &s.image(i)[p*3..p*3+3]; im.put_pixel((q * 66 + p % 64) as u32, (r * 66 + p / 64) as u32, image::Rgb([o[0], o[1], o[2]])); } } }
    im.save("/tmp/phantom.png").unwrap();
}
