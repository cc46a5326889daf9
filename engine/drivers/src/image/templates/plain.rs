//! Templates that are text with plain values in it, which most are: put together in the daemon, so
//! that a start waits for no helper.
//!
//! ```text
//! {{ instance.name }}   {{ properties.x }}   {{ path }}   {{ trigger }}
//! {{ config_get("key") }}   {{ config_get("key", "default") }}   {{ config_get("key", properties.x) }}
//! ```
//!
//! Nothing loops, nests or calls; time and memory are bounded by the text and by the ceiling of what
//! comes out. Whatever else stands between braces is not for here.

use stapes_core::template::TemplateContext;

use super::{OUTPUT_BYTES_MAX, Refusal, Source, too_much};

/// `None` when the template needs more than this.
pub(super) fn put_together(
    source: &Source,
    context: &TemplateContext,
) -> Option<Result<String, Refusal>> {
    if source.text.contains("{%") || source.text.contains("{#") {
        return None;
    }
    let mut out = String::with_capacity(source.text.len() + 64);
    let mut rest = source.text.as_str();
    while let Some((text, tag)) = rest.split_once("{{") {
        let (expression, after) = tag.split_once("}}")?;
        let value = value(expression.trim(), source, context)?;
        if out.len() + text.len() + value.len() > OUTPUT_BYTES_MAX {
            return Some(Err(too_much(OUTPUT_BYTES_MAX)));
        }
        out.push_str(text);
        out.push_str(value);
        rest = after;
    }
    if out.len() + rest.len() > OUTPUT_BYTES_MAX {
        return Some(Err(too_much(OUTPUT_BYTES_MAX)));
    }
    out.push_str(rest);
    Some(Ok(out))
}

/// What is not there is empty, as in the helper.
fn value<'a>(
    expression: &'a str,
    source: &'a Source,
    context: &'a TemplateContext,
) -> Option<&'a str> {
    match expression {
        "path" => return Some(&source.path),
        "trigger" => return Some(source.trigger.as_str()),
        _ => {}
    }
    if let Some(arguments) = expression.strip_prefix("config_get(") {
        let arguments = arguments.strip_suffix(')')?;
        let (key, other) = match arguments.split_once(',') {
            None => (arguments, None),
            Some((key, other)) => (key, Some(other.trim())),
        };
        let key = string(key.trim())?;
        let other = match other {
            None => "",
            Some(other) => string(other).or_else(|| field(other, source, context))?,
        };
        return Some(context.config.get(key).map_or(other, String::as_str));
    }
    field(expression, source, context)
}

fn field<'a>(
    expression: &str,
    source: &'a Source,
    context: &'a TemplateContext,
) -> Option<&'a str> {
    let (of, name) = expression.split_once('.')?;
    let map = match of {
        // Images from before "instance" say "container".
        "instance" | "container" => &context.instance,
        "properties" => &source.properties,
        _ => return None,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    (starts && name.bytes().all(is_name)).then(|| map.get(name).map_or("", String::as_str))
}

/// A string without escapes and without the marks that would have ended it elsewhere.
fn string(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inside.contains([quote, '\\'])).then_some(inside)
}

#[cfg(test)]
mod tests {
    use stapes_core::template::Trigger;

    use super::{super::render::render_one, *};

    fn source(text: &str) -> Source {
        Source {
            path: "/etc/x".into(),
            trigger: Trigger::Start,
            text: text.into(),
            properties: [("p".to_owned(), "property".to_owned())].into(),
        }
    }

    fn context() -> TemplateContext {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        TemplateContext {
            due: None,
            instance: [pair("name", "c1"), pair("type", "container")].into(),
            config: [pair("user.x", "{{ y }}"), pair("user.empty", "")].into(),
            devices: [].into(),
        }
    }

    #[test]
    fn plain_templates_come_out_as_the_helper_renders_them() {
        for text in [
            "",
            "{{ instance.name }}\n",
            "a {{container.name}} b } {{instance.none}}c",
            "127.0.1.1\t{{ instance.name }}\n\n::1 é {{ path }} {{ trigger }}",
            r#"{{ config_get("user.x") }}|{{ config_get('user.none') }}|"#,
            r#"{{ config_get("user.none", "d e") }}{{ config_get("user.empty", "no") }}"#,
            r#"{{ config_get("user.none", properties.p) }}{{ properties.none }}"#,
        ] {
            let plain = put_together(&source(text), &context()).expect("it is plain");
            assert_eq!(plain, render_one(&source(text), &context()), "{text}");
        }
    }

    #[test]
    fn whatever_is_more_is_left_to_the_helper() {
        for text in [
            "{% if a %}b{% endif %}",
            "{# comment #}",
            "{{ instance.name|upper }}",
            "{{ instance.name",
            "{{- instance.name }}",
            r#"{{ "a" }}"#,
            "{{ instance.name ~ 1 }}",
            "{{ instance.a.b }}",
            "{{ instance.1 }}",
            "{{ devices }}",
            r#"{{ config_get("a\"b") }}"#,
            r#"{{ config_get("a", "b", "c") }}"#,
            r#"{{ config_get("a}}b") }}"#,
            r#"{{ config_get(x) }}"#,
            "{{ config_get() }}",
        ] {
            assert_eq!(put_together(&source(text), &context()), None, "{text}");
        }
    }

    #[test]
    fn what_comes_out_has_a_ceiling() {
        let mut context = context();
        context.config.insert("user.long".to_owned(), "x".repeat(64 * 1024));
        let text = r#"{{ config_get("user.long") }}"#.repeat(5);
        let refused = put_together(&source(&text), &context).expect("it is plain");
        assert!(matches!(refused, Err(Refusal::TooMuch { .. })));
        let refused = put_together(&source(&"x".repeat(OUTPUT_BYTES_MAX + 1)), &context);
        assert!(matches!(refused, Some(Err(Refusal::TooMuch { .. }))));
    }
}
