//! Images speak pongo2 (Django's dialect); minijinja speaks Jinja2. What distributions' templates
//! use is the same but for a few spellings, which are translated here:
//!
//! `x|default:"y"` → `x|default("y")` · `&&`, `||`, `!x` → `and`, `or`, `not x` ·
//! `{% for k, v in map %}` → `... in map|items`

/// The template in Jinja2's spelling. What is not a tag stays as it is.
pub(super) fn translate(template: &str) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) =
        rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min()
    {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let close = match &tag[..2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        let Some(end) = end_of(tag, close) else {
            rest = tag;
            break;
        };
        let (inside, after) = (&tag[2..end], &tag[end + 2..]);
        out.push_str(&tag[..2]);
        if close == "#}" {
            out.push_str(inside);
        } else {
            out.push_str(&loops_over_items(&expression(inside)));
        }
        out.push_str(close);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where the tag closes; a closing mark in a string is none.
fn end_of(tag: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let bytes = tag.as_bytes();
    let mut at = 2;
    while at < bytes.len() {
        match quote {
            Some(_) if bytes[at] == b'\\' => at += 1,
            Some(open) if bytes[at] == open => quote = None,
            Some(_) => {}
            None if tag.is_char_boundary(at) && tag[at..].starts_with(close) => return Some(at),
            None if close != "#}" && (bytes[at] == b'"' || bytes[at] == b'\'') => {
                quote = Some(bytes[at])
            }
            None => {}
        }
        at += 1;
    }
    None
}

fn expression(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' => {
                let length = string_length(rest);
                out.push_str(&rest[..length]);
                length
            }
            '&' if rest.starts_with("&&") => {
                out.push_str(" and ");
                2
            }
            '|' if rest.starts_with("||") => {
                out.push_str(" or ");
                2
            }
            '!' if !rest.starts_with("!=") => {
                out.push_str(" not ");
                1
            }
            '|' => filter(rest, &mut out),
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// `|name:argument`; answers with how much that was.
fn filter(text: &str, out: &mut String) -> usize {
    let name = word_length(&text[1..]);
    out.push_str(&text[..=name]);
    let after = &text[1 + name..];
    let Some(argument) = after.strip_prefix(':') else { return 1 + name };
    let spaces = argument.len() - argument.trim_start().len();
    let argument = &argument[spaces..];
    let length = match argument.chars().next() {
        Some('"' | '\'') => string_length(argument),
        _ => word_length(argument),
    };
    out.push('(');
    out.push_str(&argument[..length]);
    out.push(')');
    1 + name + 1 + spaces + length
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(text.len())
}

fn string_length(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn loops_over_items(tag: &str) -> String {
    let words: Vec<&str> = tag.trim_matches('-').split_whitespace().collect();
    let two_names = words.first() == Some(&"for")
        && tag.split(" in ").next().is_some_and(|names| names.contains(','));
    match tag.split_once(" in ") {
        Some((names, map)) if two_names && !map.contains("items") => {
            let (map, dash) = match map.trim_end().strip_suffix('-') {
                Some(map) => (map.trim_end(), "-"),
                None => (map.trim_end(), ""),
            };
            format!("{names} in {map}|items {dash}")
        }
        _ => tag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn spellings_are_translated_and_text_is_not() {
        for (pongo, jinja) in [
            (r#"{{ x|default:"y" }}"#, r#"{{ x|default("y") }}"#),
            (r#"{{ x|default:"a}}|b:c" }}"#, r#"{{ x|default("a}}|b:c") }}"#),
            (r#"{{ x|join:", "|upper }}"#, r#"{{ x|join(", ")|upper }}"#),
            ("{{ a|default:b.c }}", "{{ a|default(b.c) }}"),
            ("{% if a && !b || c != d %}", "{% if a  and   not b  or  c != d %}"),
            ("{% for k, v in devices %}", "{% for k, v in devices|items %}"),
            ("{% for d in devices %}", "{% for d in devices %}"),
            ("a|b:c && {# x|y:z #} {{ \"é|x:y\" }}", "a|b:c && {# x|y:z #} {{ \"é|x:y\" }}"),
            ("{{ never closed", "{{ never closed"),
        ] {
            assert_eq!(translate(pongo), jinja);
        }
    }
}
