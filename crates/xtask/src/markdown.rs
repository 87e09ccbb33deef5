//! The tables in `docs/protocol.md`.

use crate::model::{Field, Kind, Message, Protocol};

pub fn blocks(protocol: &Protocol) -> Vec<(&'static str, String)> {
    let values = |name: &str| {
        let names = protocol.enums.iter().find(|names| names.name == name);
        let names = names.unwrap_or_else(|| panic!("there is no {name}"));
        let mut out = String::from("\n| | |\n|---|---|\n");
        for (name, doc) in &names.values {
            out.push_str(&format!("| `{name}` | {} |\n", doc.text()));
        }
        out.push('\n');
        out
    };
    let object = |name: &str| {
        let object = protocol.structs.iter().find(|object| object.name == name);
        let object = object.unwrap_or_else(|| panic!("there is no {name}"));
        format!("\n{}\n", fields(protocol, &object.fields))
    };
    vec![
        ("overview", overview(protocol)),
        ("client messages", messages(protocol, &protocol.client)),
        ("server messages", messages(protocol, &protocol.server)),
        ("HistoryItem", object("HistoryItem")),
        ("SessionItem", object("SessionItem")),
        ("VerdictItem", object("VerdictItem")),
        ("HostInfo", object("HostInfo")),
        ("DeliveryState", values("DeliveryState")),
        ("ErrorCode", values("ErrorCode")),
        ("Role", values("Role")),
    ]
}

fn overview(protocol: &Protocol) -> String {
    let mut out = String::new();
    for (who, messages) in [("client", &protocol.client), ("server", &protocol.server)] {
        out.push_str(&format!("\n| The {who} says | |\n|---|---|\n"));
        for message in messages {
            let Message { name, doc, .. } = message;
            out.push_str(&format!("| [`{name}`](#{name}) | {} |\n", doc.title));
        }
    }
    out.push('\n');
    out
}

fn messages(protocol: &Protocol, messages: &[Message]) -> String {
    let mut out = String::new();
    for Message {
        name,
        doc,
        fields: all,
    } in messages
    {
        out.push_str(&format!("\n### `{name}`\n\n{}\n\n", doc.text()));
        out.push_str(&format!("```json\n{}```\n", doc.example));
        if !all.is_empty() {
            out.push('\n');
            out.push_str(&fields(protocol, all));
        }
    }
    out.push('\n');
    out
}

fn fields(protocol: &Protocol, fields: &[Field]) -> String {
    let mut out = String::from("| field | is | |\n|---|---|---|\n");
    for field in fields {
        let kind = match &field.kind {
            Kind::Text => "string".to_owned(),
            Kind::Uuid => "UUID".to_owned(),
            Kind::Flag => "boolean".to_owned(),
            Kind::Number => "number".to_owned(),
            Kind::List(name) => format!("list of [{name}](#{})", name.to_lowercase()),
            Kind::Named(name) => named(protocol, name),
        };
        let mark = if field.optional || field.name == "limit" {
            "?"
        } else {
            ""
        };
        out.push_str(&format!(
            "| `{}`{mark} | {kind} | {} |\n",
            field.name,
            field.doc.text()
        ));
    }
    out
}

/// A struct has a section of its own; of an enum the names are few, or they have one, too.
fn named(protocol: &Protocol, name: &str) -> String {
    let names = protocol.enums.iter().find(|names| names.name == name);
    match names {
        Some(names) if !["DeliveryState", "ErrorCode", "Role"].contains(&name) => {
            let values = names.values.iter().map(|(name, _)| format!("`{name}`"));
            values.collect::<Vec<_>>().join(", ")
        }
        _ => format!("[{name}](#{})", name.to_lowercase()),
    }
}
