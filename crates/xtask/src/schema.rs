//! `asyncapi.yaml`: every message with its JSON Schema (draft 7).

use claude_socket_client::protocol::{
    DEFAULT_LIMIT, MAX_LIMIT, MAX_MESSAGE_ID, MAX_SEARCH, MAX_SESSIONS_LISTED, MAX_TIMESTAMP,
};

use crate::model::{Enum, Field, Kind, Message, Protocol, Struct};
use crate::yaml::{Yaml, map, names, plain, text, write_entries};

/// The longest session id and user name of a server with its default settings, in characters.
const MAX_ID_LENGTH: usize = 128;
/// A text on one line.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$";
/// Characters of which a time can be made.
const TIME: &str = "^[A-Za-z0-9 :.+,-]*$";
/// Names that only a client uses.
const CLIENT_ONLY: &str = "queue_full";

pub fn blocks(protocol: &Protocol) -> Vec<(&'static str, String)> {
    let all = || protocol.client.iter().chain(&protocol.server);
    let channel = entries(all().map(|message| {
        let name = &message.name;
        (name.clone(), reference("messages", name))
    }));
    let messages = entries(all().map(|message| (message.name.clone(), described(message))));
    let schemas = entries(
        (protocol
            .client
            .iter()
            .map(|message| (message.name.clone(), client_schema(message))))
        .chain(
            protocol
                .server
                .iter()
                .map(|message| (message.name.clone(), server_schema(message))),
        )
        .chain([("SessionId".to_owned(), session_id())])
        .chain(
            protocol
                .enums
                .iter()
                .map(|names| (names.name.clone(), enum_schema(names))),
        )
        .chain(
            protocol
                .structs
                .iter()
                .map(|object| (object.name.clone(), struct_schema(object))),
        ),
    );
    let written = |entries: &[(String, Yaml)], indent| {
        let mut out = String::new();
        write_entries(&mut out, entries, indent);
        out
    };
    let components = [
        ("messages".to_owned(), Yaml::Map(messages)),
        ("schemas".to_owned(), Yaml::Map(schemas)),
    ];
    vec![
        ("channel", written(&channel, 6)),
        ("components", written(&components, 2)),
    ]
}

fn entries(entries: impl Iterator<Item = (String, Yaml)>) -> Vec<(String, Yaml)> {
    entries.collect()
}

fn reference(of: &str, name: &str) -> Yaml {
    map([("$ref", text(format!("#/components/{of}/{name}")))])
}

/// A message with its prose and its example.
fn described(message: &Message) -> Yaml {
    // JSON is YAML, too.
    let example = message.doc.example.replace('\n', " ");
    let mut described = map([("title", text(message.doc.title.trim_end_matches('.')))]);
    if !message.doc.rest.is_empty() {
        described = described.with("description", text(&message.doc.rest));
    }
    described
        .with("payload", reference("schemas", &message.name))
        .with(
            "examples",
            Yaml::List(vec![map([("payload", plain(example.trim_end()))])]),
        )
}

/// An object with these properties. `type` has that value.
fn object(kind: Option<&str>, required: Vec<&str>, properties: Vec<(String, Yaml)>) -> Yaml {
    let kind_name = kind.map(|_| "type");
    let tag = kind.map(|kind| ("type".to_owned(), map([("const", text(kind))])));
    map([
        ("type", text("object")),
        ("required", names(kind_name.into_iter().chain(required))),
        (
            "properties",
            Yaml::Map(tag.into_iter().chain(properties).collect()),
        ),
    ])
}

/// What the server takes: `null` counts as left out.
fn client_schema(message: &Message) -> Yaml {
    // A request for messages or verdicts goes without a limit.
    let is_optional = |field: &Field| field.optional || field.name == "limit";
    let required = message.fields.iter().filter(|field| !is_optional(field));
    let required = required.map(|field| field.name.as_str()).collect();
    let properties = message.fields.iter().map(|field| {
        let kind = match field.kind {
            Kind::Text => "string",
            Kind::Flag => "boolean",
            Kind::Number => "number",
            ref other => panic!("clients send no {other:?}"),
        };
        let kind = match is_optional(field) {
            true => plain(format!("[{kind}, 'null']")),
            false => text(kind),
        };
        let schema = map([("description", text(field.doc.text())), ("type", kind)]);
        let schema = match (message.name.as_str(), field.name.as_str()) {
            (_, "session_id") => line(schema.with("minLength", plain(1)), MAX_ID_LENGTH),
            (_, "user") => line(schema, MAX_ID_LENGTH),
            ("fetch_receipt", "id") => line(schema.with("minLength", plain(1)), MAX_MESSAGE_ID),
            (_, "id") => line(schema, MAX_MESSAGE_ID),
            (_, "text") => line(schema.with("minLength", plain(1)), MAX_SEARCH),
            (_, "ts") => schema
                .with("maxLength", plain(MAX_TIMESTAMP))
                .with("pattern", Yaml::Plain(format!("'{TIME}'"))),
            (_, "limit") => schema.with("default", plain(DEFAULT_LIMIT)),
            (_, "content" | "request_id") => schema.with("minLength", plain(1)),
            _ => schema,
        };
        (field.name.clone(), schema)
    });
    object(Some(&message.name), required, properties.collect())
}

fn line(schema: Yaml, max: usize) -> Yaml {
    schema
        .with("maxLength", plain(max))
        .with("pattern", Yaml::Plain(format!("'{LINE}'")))
}

fn server_schema(message: &Message) -> Yaml {
    let schema = object(
        Some(&message.name),
        required(&message.fields),
        properties(&message.name, &message.fields),
    );
    if message.name != "delivery" {
        return schema;
    }
    let is = |state| {
        let state = map([("state", map([("const", text(state))]))]);
        map([("properties", state)])
    };
    let requires = |fields| map([("required", plain(fields))]);
    // Of a message that is lost the server may know nothing but the client's id.
    let otherwise = map([
        ("if", is("lost")),
        ("then", requires("[hint]")),
        ("else", requires("[message_id, seq]")),
    ]);
    schema
        .with("if", is("rejected"))
        .with("then", requires("[code]"))
        .with("else", otherwise)
}

fn struct_schema(object_type: &Struct) -> Yaml {
    let Struct { name, doc, fields } = object_type;
    let Yaml::Map(rest) = object(None, required(fields), properties(name, fields)) else {
        panic!("an object is a map");
    };
    let description = ("description".to_owned(), text(doc.text()));
    Yaml::Map([vec![description], rest].concat())
}

fn required(fields: &[Field]) -> Vec<&str> {
    let required = fields.iter().filter(|field| !field.optional);
    required.map(|field| field.name.as_str()).collect()
}

/// The properties of a message of the server's, or of an object in one.
fn properties(of: &str, fields: &[Field]) -> Vec<(String, Yaml)> {
    let property = |field: &Field| (field.name.clone(), property(of, field));
    fields.iter().map(property).collect()
}

fn property(of: &str, field: &Field) -> Yaml {
    let schema = map([("description", text(field.doc.text()))]);
    let several = |schema: Yaml, name: &str, max: usize| {
        schema
            .with("type", text("array"))
            .with("maxItems", plain(max))
            .with("items", reference("schemas", name))
    };
    match (&field.kind, of, field.name.as_str()) {
        (Kind::Named(name), ..) => {
            schema.with("allOf", Yaml::List(vec![reference("schemas", name)]))
        }
        (Kind::List(name), _, "messages" | "verdicts") => several(schema, name, MAX_LIMIT),
        (Kind::List(name), _, "sessions") => several(schema, name, MAX_SESSIONS_LISTED),
        (Kind::List(name), ..) => panic!("a list of {name} needs a limit"),
        (Kind::Text, "welcome", "server") => schema.with("const", text("claude-socket")),
        (Kind::Text, "error", "session_id") => schema.with("type", text("string")),
        (Kind::Text, _, "session_id") => {
            schema.with("allOf", Yaml::List(vec![reference("schemas", "SessionId")]))
        }
        (Kind::Text, ..) => {
            let schema = schema.with("type", text("string"));
            match (of, field.name.as_str()) {
                ("reply", "ts") | (_, "created") => schema.with("format", text("date-time")),
                ("delivery", "id") => schema
                    .with("minLength", plain(1))
                    .with("maxLength", plain(MAX_MESSAGE_ID)),
                (_, "ts" | "user" | "request_id") | ("user_message", "content") => {
                    schema.with("minLength", plain(1))
                }
                _ => schema,
            }
        }
        (Kind::Uuid, ..) => schema
            .with("type", text("string"))
            .with("format", text("uuid")),
        (Kind::Flag, ..) => schema.with("type", text("boolean")),
        (Kind::Number, ..) => {
            // The last `seq` of a session is 0 before the first message.
            let minimum = match (of, field.name.as_str()) {
                ("welcome" | "SessionItem", "seq") => 0,
                (_, "seq" | "max_message" | "retry_after") => 1,
                _ => 0,
            };
            schema
                .with("type", text("integer"))
                .with("minimum", plain(minimum))
        }
    }
}

fn session_id() -> Yaml {
    let description =
        format!("A session's name. {MAX_ID_LENGTH} characters at most (`--max-id-length`).");
    let schema = map([
        ("description", text(description)),
        ("type", text("string")),
        ("minLength", plain(1)),
    ]);
    line(schema, MAX_ID_LENGTH)
}

fn enum_schema(names_of: &Enum) -> Yaml {
    let values = || {
        names_of
            .values
            .iter()
            .filter(|(name, _)| name != CLIENT_ONLY)
    };
    let mut description = names_of.doc.text();
    for (name, doc) in values() {
        description.push_str(&format!(" `{name}`: {}", doc.text()));
    }
    map([
        ("description", text(description)),
        ("type", text("string")),
        ("enum", names(values().map(|(name, _)| name.as_str()))),
    ])
}
