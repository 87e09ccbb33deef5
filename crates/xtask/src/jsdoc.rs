//! The types in `client/claude-socket.js`.

use crate::model::{Doc, Field, Kind, Protocol};
use crate::wrap;

/// The longest line, in characters.
const WIDTH: usize = 110;

pub fn blocks(protocol: &Protocol) -> Vec<(&'static str, String)> {
    let mut out = String::new();
    for names in &protocol.enums {
        let values: Vec<String> = names
            .values
            .iter()
            .map(|(name, _)| format!("'{name}'"))
            .collect();
        let union = values.join(" | ");
        let mut text = names.doc.text();
        for (name, doc) in &names.values {
            text.push_str(&format!(" `{name}`: {}", doc.text()));
        }
        comment(
            &mut out,
            &text,
            &[format!("@typedef {{{union}}} {}", names.name)],
        );
    }
    for object in &protocol.structs {
        typedef(&mut out, &object.name, &object.doc, None, &object.fields);
    }
    let mut all = Vec::new();
    for message in &protocol.server {
        let name = name_of(&message.name);
        typedef(
            &mut out,
            &name,
            &message.doc,
            Some(&message.name),
            &message.fields,
        );
        all.push(name);
    }
    let union = all.join(" | ");
    let tag = format!("@typedef {{{union}}} ServerMessage");
    comment(
        &mut out,
        "Every message of the server's, told apart by `type`.",
        &[tag],
    );
    vec![("types", out)]
}

/// `permission_request` is a `PermissionRequestMessage`.
fn name_of(message: &str) -> String {
    let mut name: String = message
        .split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect();
    if !name.ends_with("Message") {
        name.push_str("Message");
    }
    name
}

fn typedef(out: &mut String, name: &str, doc: &Doc, kind: Option<&str>, fields: &[Field]) {
    let mut tags = vec![format!("@typedef {{object}} {name}")];
    tags.extend(kind.map(|kind| format!("@property {{'{kind}'}} type")));
    for field in fields {
        let kind = match &field.kind {
            Kind::Text | Kind::Uuid => "string".to_owned(),
            Kind::Flag => "boolean".to_owned(),
            Kind::Number => "number".to_owned(),
            Kind::Named(name) => name.clone(),
            Kind::List(name) => format!("{name}[]"),
        };
        let name = match field.optional {
            true => format!("[{}]", field.name),
            false => field.name.clone(),
        };
        tags.push(format!("@property {{{kind}}} {name} {}", field.doc.text()));
    }
    comment(out, &doc.text(), &tags);
}

fn comment(out: &mut String, text: &str, tags: &[String]) {
    out.push_str("/**\n");
    for line in wrap(text, WIDTH) {
        out.push_str(&format!(" * {line}\n"));
    }
    for tag in tags {
        for (place, line) in wrap(tag, WIDTH).iter().enumerate() {
            let indent = if place == 0 { "" } else { "  " };
            out.push_str(&format!(" * {indent}{line}\n"));
        }
    }
    out.push_str(" */\n\n");
}
