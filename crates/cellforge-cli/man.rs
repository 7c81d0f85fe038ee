//! `cellforge man`: pages for `man`, one for the program and one for each verb.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, builder::StyledStr};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use crate::common::{save_shared, say};

/// Arguments of `man`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge man --out ~/.local/share/man/man1
  man cellforge-train-gan

Pages that are there are replaced.")]
pub struct Args {
    /// The folder of the pages
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let mut command = crate::Cli::command().disable_help_subcommand(true);
    command.build();
    let count = write_pages(&command, &[], &args.out)?;
    say(format!("{count} pages in {}", args.out.display()));
    Ok(())
}

/// Writes the page of a command and those of the commands below it, and counts them. `above` names the commands that it is part of.
fn write_pages(command: &Command, above: &[&str], out: &Path) -> Result<usize> {
    let name = page_name(command);
    save_shared(&out.join(format!("{name}.1")), &page(command, above)?)?;
    let above = [above, &[name]].concat();
    let mut count = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        count += write_pages(below, &above, out)?;
    }
    Ok(count)
}

/// The name of a command's page, such as `cellforge-train-gan`.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of one command, in the language of `man`.
fn page(command: &Command, above: &[&str]) -> Result<String> {
    let after = command.get_after_help().map(StyledStr::to_string).unwrap_or_default();
    let (sections, paragraphs) = parts(&after);
    let about = command.get_long_about().or_else(|| command.get_about()).map(StyledStr::to_string).unwrap_or_default();
    let described = format!("{about}\n\n{}", paragraphs.join("\n"));

    // What help shows after the options is described or gets sections of its own; the version stands at the foot of each page.
    let shown = command.clone().long_about(described.trim_end().to_owned());
    let man = Man::new(shown);
    // By hand: the crate leaves out a date that is empty, and what follows would be taken for it.
    let title = page_name(command).replace('-', "\\-");
    let mut written =
        format!(".TH {title} 1 \"\" \"Cellforge {}\" Cellforge\n", env!("CARGO_PKG_VERSION")).into_bytes();
    man.render_name_section(&mut written)?;
    man.render_synopsis_section(&mut written)?;
    man.render_description_section(&mut written)?;
    man.render_options_section(&mut written)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut written)?;
    }

    let mut rest = Roff::new();
    for (heading, lines) in sections {
        rest.control("SH", [heading.to_uppercase().as_str()]);
        rest.control("EX", []);
        for line in lines {
            rest.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        rest.control("EE", []);
    }
    if let Some(last) = above.last() {
        rest.control("SH", ["SEE ALSO"]);
        for name in above {
            rest.control("BR", [*name, if name == last { "(1)" } else { "(1)," }]);
        }
    }
    rest.to_writer(&mut written)?;

    // Each part begins with what an apostrophe is; once is enough.
    let apostrophe = Roff::new().render();
    Ok(apostrophe.clone() + &String::from_utf8(written)?.replace(&apostrophe, ""))
}

/// A heading, and the lines below it.
type Section<'a> = (&'a str, Vec<&'a str>);

/// What help shows after the options: sections, each a line that ends with a colon and indented lines right below it; and all other lines.
fn parts(text: &str) -> (Vec<Section<'_>>, Vec<&str>) {
    let is_inside = |line: &str| line.is_empty() || line.starts_with("  ");
    let (mut sections, mut rest) = (Vec::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match line.strip_suffix(':') {
            Some(heading) if !is_inside(line) && lines.peek().is_some_and(|next| next.starts_with("  ")) => {
                let mut inside = Vec::new();
                while let Some(line) = lines.next_if(|line| is_inside(line)) {
                    inside.push(line);
                }
                while inside.last().is_some_and(|line| line.is_empty()) {
                    inside.pop();
                }
                sections.push((heading, inside));
            }
            _ => rest.push(line),
        }
    }
    (sections, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_falls_into_sections_and_paragraphs() {
        let text = "Examples:\n  one\n\n  two\n\nA file is TOML:\n\n  [gan]\n\nExit codes:\n  0  done\n\nThe end.";
        let (sections, rest) = parts(text);
        assert_eq!(sections, [("Examples", vec!["  one", "", "  two"]), ("Exit codes", vec!["  0  done"])]);
        assert_eq!(rest, ["A file is TOML:", "", "  [gan]", "", "The end."]);
    }
}
