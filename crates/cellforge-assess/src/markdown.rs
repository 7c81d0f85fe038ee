//! Texts of others in Markdown: names of classes and files, settings, answers.

/// A text as Markdown shows it, with nothing in it taken for markup, HTML or the end of a table's column. A line end becomes a space.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let letters: Vec<char> = text.chars().collect();
    for (at, &letter) in letters.iter().enumerate() {
        let is_word =
            |at: Option<usize>| at.and_then(|at| letters.get(at)).is_some_and(|letter| letter.is_alphanumeric());
        let is_markup = match letter {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '&' => true,
            // Between letters it emphasises nothing (CommonMark), and names such as `fd_pixels` stay readable.
            '_' => !(is_word(at.checked_sub(1)) && is_word(Some(at + 1))),
            // A heading, a list or a rule, where the text begins a line.
            '#' | '-' | '+' | '=' => at == 0,
            _ => false,
        };
        if is_markup {
            shown.push('\\');
        }
        shown.push(if letter.is_control() { ' ' } else { letter });
    }
    shown
}

/// Lines of a program in a fenced block, whose fence is longer than any in them.
#[must_use]
pub fn fenced(language: &str, lines: &str) -> String {
    let longest = lines.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{lines}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup() {
        assert_eq!(escaped("<script>x</script> & [a](b)"), r"\<script\>x\</script\> \& \[a\](b)");
        assert_eq!(escaped("a|b\n# c"), r"a\|b # c");
        assert_eq!(escaped("# a"), r"\# a");
        assert_eq!(escaped("fd_pixels _a_ **b** `c` ~~d~~ \\e"), r"fd_pixels \_a\_ \*\*b\*\* \`c\` \~\~d\~\~ \\e");
    }

    #[test]
    fn a_fence_is_longer_than_those_inside() {
        assert_eq!(fenced("sh", "a"), "```sh\na\n```\n");
        assert_eq!(fenced("", "x ```` y"), "`````\nx ```` y\n`````\n");
    }
}
