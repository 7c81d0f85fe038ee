//! Downloads from a server on this machine that misbehaves in every way that matters.

#![cfg(feature = "fetch")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cellforge_data::Error;
use cellforge_data::fetch::{FetchOptions, fetch};
use sha2::{Digest, Sha256};

fn content() -> Vec<u8> {
    (0..300_000u32).map(|i| (i * 7 % 253) as u8).collect()
}

fn sha() -> String {
    Sha256::digest(content()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Serves each connection with `answer(number of the request, its Range header if any, stream)`. Returns the address
/// and the Range headers seen.
fn serve(
    answer: impl Fn(usize, Option<usize>, &mut TcpStream) + Send + 'static,
) -> (String, Arc<Mutex<Vec<Option<usize>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/images.zip", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut range = None;
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(from) = line.strip_prefix("range: bytes=") {
                    range = Some(from.trim_end_matches('-').parse().unwrap());
                }
            }
            log.lock().unwrap().push(range);
            answer(number, range, &mut stream);
        }
    });
    (url, seen)
}

fn head(stream: &mut TcpStream, status: &str, length: usize, more: &str) {
    tagged(stream, status, "v1", length, more);
}

fn tagged(stream: &mut TcpStream, status: &str, tag: &str, length: usize, more: &str) {
    let tag = format!("ETag: \"{tag}\"\r\n");
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{tag}Connection: close\r\n{more}\r\n").unwrap();
}

fn options(url: &str, folder: &Path) -> FetchOptions {
    FetchOptions {
        timeout: Duration::from_secs(5),
        pause: Duration::from_millis(1),
        attempts: 2,
        ..FetchOptions::new(url, folder.join("images.zip"))
    }
}

#[test]
fn a_dropped_connection_is_resumed_where_it_broke_off() {
    let (url, seen) = serve(|number, range, stream| {
        let all = content();
        if number == 0 {
            // Half of the file, then the line goes dead.
            head(stream, "200 OK", all.len(), "");
            stream.write_all(&all[..all.len() / 2]).unwrap();
        } else {
            let from = range.expect("a range request");
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", all.len() - 1, all.len());
            head(stream, "206 Partial Content", all.len() - from, &range);
            stream.write_all(&all[from..]).unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let options = FetchOptions { sha256: Some(sha()), length: Some(300_000), ..options(&url, folder.path()) };
    let path = fetch(&options).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    assert_eq!(*seen.lock().unwrap(), [None, Some(150_000)]);
    // Nothing is left beside it, and a second fetch asks nobody.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    fetch(&options).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn a_server_that_sends_less_than_was_asked_for_is_asked_for_the_rest() {
    let (url, seen) = serve(|_, range, stream| {
        let all = content();
        let (from, to) = range.map_or((0, 150_000), |from| (from, (from + 100_000).min(all.len())));
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, all.len());
        match from {
            0 => head(stream, "200 OK", all.len(), ""),
            _ => head(stream, "206 Partial Content", to - from, &range),
        }
        stream.write_all(&all[from..to]).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    // Neither length nor checksum is known here: only the Content-Range tells that the second answer is not the end.
    let path = fetch(&options(&url, folder.path())).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    assert_eq!(*seen.lock().unwrap(), [None, Some(150_000), Some(250_000)]);
}

#[test]
fn a_file_that_changes_on_the_way_is_fetched_from_its_start() {
    let second: Vec<u8> = content().iter().map(|byte| !byte).collect();
    let served = second.clone();
    let (url, seen) = serve(move |number, range, stream| match (number, range) {
        (0, _) => {
            let first = content();
            head(stream, "200 OK", first.len(), "");
            stream.write_all(&first[..first.len() / 2]).unwrap();
        }
        // The server does not heed If-Range: it sends the rest of the second file.
        (_, Some(from)) => {
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", served.len() - 1, served.len());
            tagged(stream, "206 Partial Content", "v2", served.len() - from, &range);
            // Nobody may be listening any more.
            stream.write_all(&served[from..]).ok();
        }
        (_, None) => {
            tagged(stream, "200 OK", "v2", served.len(), "");
            stream.write_all(&served).unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = fetch(&options(&url, folder.path())).unwrap();
    assert!(std::fs::read(path).unwrap() == second, "a splice of two files");
    assert_eq!(*seen.lock().unwrap(), [None, Some(150_000), None]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_second_fetch_of_the_same_file_is_refused_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    // What a process that was killed left behind keeps nobody out.
    std::fs::write(folder.path().join("images.zip.part.lock"), "").unwrap();
    let second = options("http://127.0.0.1:1/never-asked", folder.path());
    let refused = Arc::new(Mutex::new(String::new()));
    let told = refused.clone();
    let (url, _) = serve(move |_, _, stream| {
        // The first fetch waits for its answer at this moment.
        *told.lock().unwrap() = fetch(&second).unwrap_err().to_string();
        let all = content();
        head(stream, "200 OK", all.len(), "");
        stream.write_all(&all).unwrap();
    });
    let path = fetch(&options(&url, folder.path())).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    let refused = refused.lock().unwrap();
    assert!(refused.contains("another process is downloading") && refused.contains("images.zip"), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_server_without_ranges_sends_the_whole_again() {
    let (url, _) = serve(|number, _, stream| {
        let all = content();
        head(stream, "200 OK", all.len(), "");
        let upto = if number == 0 { 1000 } else { all.len() };
        stream.write_all(&all[..upto]).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let path = fetch(&options(&url, folder.path())).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
}

#[test]
fn a_complete_part_file_is_accepted_with_416() {
    let (url, _) = serve(|_, range, stream| {
        assert_eq!(range, Some(300_000));
        head(stream, "416 Range Not Satisfiable", 0, "Content-Range: bytes */300000\r\n");
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("images.zip.part"), content()).unwrap();
    std::fs::write(folder.path().join("images.zip.part.etag"), "\"v1\"").unwrap();
    let path = fetch(&FetchOptions { sha256: Some(sha()), ..options(&url, folder.path()) }).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
}

#[test]
fn wrong_content_is_refused_and_removed() {
    let (url, _) = serve(|_, _, stream| {
        head(stream, "200 OK", 5, "");
        stream.write_all(b"wrong").unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let with_sha = FetchOptions { sha256: Some(sha()), ..options(&url, folder.path()) };
    let error = fetch(&with_sha).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains(&sha()), "{error}");
    assert!(error.contains("check the address") && !error.contains("remove"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let with_length = FetchOptions { length: Some(6), ..options(&url, folder.path()) };
    assert!(fetch(&with_length).unwrap_err().to_string().contains("length 5, not 6"));
    // One that was there before is the user's to remove.
    std::fs::write(folder.path().join("images.zip"), "wrong").unwrap();
    let error = fetch(&with_sha).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains("remove it and fetch again"), "{error}");
}

#[test]
fn a_file_of_another_length_is_refused_before_it_is_downloaded() {
    // The body never comes: whoever waits for it asks again.
    let (url, seen) = serve(|_, _, stream| head(stream, "200 OK", 300_000, ""));
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&FetchOptions { length: Some(299_999), ..options(&url, folder.path()) }).unwrap_err().to_string();
    assert!(error.contains("length 300000, not 299999") && error.contains("check the address"), "{error}");
    assert_eq!(*seen.lock().unwrap(), [None]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_file_is_reported_at_once() {
    let (url, seen) = serve(|_, _, stream| head(stream, "404 Not Found", 0, ""));
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&options(&url, folder.path())).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains(&url), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn offline_says_what_to_do_and_keeps_what_there_is() {
    // A port that nobody listens on: bound for a moment to learn its number.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("images.zip.part");
    std::fs::write(&part, b"half").unwrap();
    let error = fetch(&options(&format!("http://127.0.0.1:{port}/x"), folder.path())).unwrap_err();
    assert!(matches!(&error, Error::Offline { dest, .. } if *dest == folder.path().join("images.zip")), "{error}");
    assert!(error.to_string().contains("online") && error.to_string().contains("images.zip"), "{error}");
    assert_eq!(std::fs::read(part).unwrap(), b"half");
}

#[test]
fn an_address_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&options("not an address", folder.path())).unwrap_err().to_string();
    assert!(error.contains("not an address"), "{error}");
}
