//! `cellforge completions`: a script that teaches a shell the command line.

use anyhow::Result;
use clap::CommandFactory;

/// Arguments of `completions`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge completions bash > ~/.local/share/bash-completion/completions/cellforge
  cellforge completions zsh > ~/.zfunc/_cellforge
  cellforge completions fish > ~/.config/fish/completions/cellforge.fish")]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "cellforge", &mut script);
    crate::common::say(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
