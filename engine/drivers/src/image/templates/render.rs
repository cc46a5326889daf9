//! The pure part: template and context in, text out.

use std::{collections::BTreeMap, io::Write};

use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, Value, context, syntax::SyntaxConfig, value::Rest,
};

use stapes_core::template::TemplateContext;

use super::{
    OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX_ALL, RenderJob, Source, pongo::translate, too_much,
};
use crate::image::Refusal;

/// Instructions of one template.
const FUEL: u64 = 100_000;
const RECURSION_MAX: usize = 32;

/// Each for itself: one that is wrong spoils no other.
pub(in crate::image) fn render(job: &RenderJob) -> Vec<Result<String, Refusal>> {
    let mut left = OUTPUT_BYTES_MAX_ALL;
    let one = |source: &Source| {
        let text = render_one(source, &job.context)?;
        left = left.checked_sub(text.len()).ok_or_else(|| too_much(OUTPUT_BYTES_MAX_ALL))?;
        Ok(text)
    };
    job.sources.iter().map(one).collect()
}

/// Takes so much and no more.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn render_one(source: &Source, context: &TemplateContext) -> Result<String, Refusal> {
    let wrong = |error: minijinja::Error| Refusal::BadTemplate {
        path: source.path.clone(),
        why: error.to_string().replace(['\n', '\r'], " "),
    };
    let environment = environment(context.config.clone()).map_err(wrong)?;
    let text = translate(&source.text);
    let template = environment.template_from_str(&text).map_err(wrong)?;
    let values = context! {
        trigger => source.trigger.as_str(),
        path => &source.path,
        instance => &context.instance,
        // Images from before "instance" say "container".
        container => &context.instance,
        config => &context.config,
        devices => &context.devices,
        properties => &source.properties,
    };
    let mut out = Capped(Vec::new());
    match template.render_captured_to(values, &mut out) {
        Ok(_) => {}
        Err(error)
            if out.0.len() > OUTPUT_BYTES_MAX / 2
                && error.kind() == minijinja::ErrorKind::WriteFailure =>
        {
            return Err(too_much(OUTPUT_BYTES_MAX));
        }
        Err(error) => return Err(wrong(error)),
    }
    String::from_utf8(out.0).map_err(|_| too_much(OUTPUT_BYTES_MAX))
}

/// Only what templates of the field use: no loader, no include, no globals that make data.
fn environment(config: BTreeMap<String, String>) -> Result<Environment<'static>, minijinja::Error> {
    use minijinja::filters;
    let mut environment = Environment::empty();
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    // As in pongo2, an empty string too has no value of its own.
    environment.add_filter("default", |value: &Value, other: Option<Value>| {
        if value.is_true() { value.clone() } else { other.unwrap_or_default() }
    });
    environment.add_filter("items", filters::items);
    environment.add_filter("join", filters::join);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("safe", |value: Value| value);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_function("config_get", move |key: &str, other: Rest<Value>| {
        let found = config.get(key).map(|value| Value::from(value.clone()));
        found.or_else(|| other.first().cloned()).unwrap_or_default()
    });
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use stapes_core::template::Trigger;

    use super::*;

    fn rendered(text: &str) -> Result<String, Refusal> {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let context = TemplateContext {
            due: None,
            instance: map(&[("name", "c1"), ("type", "container")]),
            config: map(&[("user.user-data", "#cloud-config\n"), ("user.empty", "")]),
            devices: [("eth0".to_owned(), map(&[("type", "nic")]))].into(),
        };
        let source = Source {
            path: "/etc/x".into(),
            trigger: Trigger::Create,
            text: text.into(),
            properties: map(&[("default", "#cloud-config\n{}\n")]),
        };
        render_one(&source, &context)
    }

    #[test]
    fn the_usual_templates_render() {
        let network = r#"{% if config_get("user.network-config", "") == "" %}version: 1
config:
  - type: physical
    name: eth0
    subnets:
      - type: {% if config_get("user.network_mode", "") == "link-local" %}manual{% else %}dhcp{% endif %}
        control: auto{% else %}{{ config_get("user.network-config", "") }}{% endif %}
"#;
        for (template, text) in [
            ("{{ instance.name }}\n", "c1\n"),
            ("{{ container.name }}\n", "c1\n"),
            (
                "127.0.0.1 localhost\n127.0.1.1 {{ instance.name }}\n",
                "127.0.0.1 localhost\n127.0.1.1 c1\n",
            ),
            (r#"{{ config_get("user.user-data", properties.default) }}"#, "#cloud-config\n"),
            (r#"{{ config_get("user.vendor-data", properties.default) }}"#, "#cloud-config\n{}\n"),
            (r#"{{ config_get("user.none") }}{{ instance.none.deeper }}|"#, "|"),
            (
                r#"{{ config["user.empty"]|default:"y" }} {{ path }} {{ trigger|upper }}"#,
                "y /etc/x CREATE",
            ),
            (
                "{% for name, device in devices %}{{ name }}={{ device.type }}{% endfor %}",
                "eth0=nic",
            ),
            ("<{{ \"&\" }}>", "<&>"),
            (
                network,
                "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: \
                 dhcp\n        control: auto\n",
            ),
        ] {
            assert_eq!(rendered(template).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn no_template_reads_a_file_or_runs_away() {
        for bad in [
            r#"{% include "/etc/passwd" %}"#,
            r#"{% ssi "/etc/passwd" %}"#,
            r#"{% import "/etc/passwd" as x %}"#,
            r#"{% extends "/etc/passwd" %}"#,
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
            "{{ x",
            "{{ x|pprint }}",
        ] {
            let refusal = rendered(bad).unwrap_err();
            assert!(matches!(refusal, Refusal::BadTemplate { .. }), "{bad}: {refusal:?}");
        }
        let long =
            format!("{{% for a in [{}] %}}{}{{% endfor %}}", "1,".repeat(200), "x".repeat(10_000));
        assert!(matches!(rendered(&long), Err(Refusal::TooMuch { .. })));
    }
}
