//! The protocol, as its Rust source tells.

use std::fs;
use std::path::Path;

use claude_socket_client::protocol::ServerMessage;
use serde_json::Value;
use syn::{
    Attribute, Expr, ExprLit, Fields, GenericArgument, Item, Lit, Meta, PathArguments, Type,
};

/// Everything that travels over the WebSocket.
pub struct Protocol {
    /// What clients say.
    pub client: Vec<Message>,
    /// What the server says.
    pub server: Vec<Message>,
    /// Objects inside of messages, by their Rust names.
    pub structs: Vec<Struct>,
    pub enums: Vec<Enum>,
}

pub struct Message {
    /// Its `type`.
    pub name: String,
    pub doc: Doc,
    pub fields: Vec<Field>,
}

pub struct Struct {
    pub name: String,
    pub doc: Doc,
    pub fields: Vec<Field>,
}

pub struct Field {
    pub name: String,
    pub doc: Doc,
    pub kind: Kind,
    pub optional: bool,
}

/// The names that a field can have as its value.
pub struct Enum {
    pub name: String,
    pub doc: Doc,
    pub values: Vec<(String, Doc)>,
}

/// What values a field has.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text,
    /// An id of the server's.
    Uuid,
    Flag,
    Number,
    /// A struct or an enum.
    Named(String),
    List(String),
}

/// A doc comment.
#[derive(Default)]
pub struct Doc {
    /// Its first paragraph.
    pub title: String,
    /// The others.
    pub rest: String,
    /// The JSON in it.
    pub example: String,
}

impl Doc {
    /// The text without the example.
    pub fn text(&self) -> String {
        format!("{} {}", self.title, self.rest)
            .trim_end()
            .to_owned()
    }
}

impl Protocol {
    /// Reads the source in this folder.
    pub fn read(folder: &Path) -> Self {
        let mut protocol = Self {
            client: Vec::new(),
            server: Vec::new(),
            structs: Vec::new(),
            enums: Vec::new(),
        };
        for file in ["client.rs", "server.rs", "role.rs"] {
            let path = folder.join(file);
            let text = fs::read_to_string(&path);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let file = syn::parse_file(&text);
            let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            file.items.into_iter().for_each(|item| protocol.take(item));
        }
        protocol
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Struct(item) => {
                let (doc, fields) = (doc(&item.attrs), fields(item.fields));
                match serde(&item.attrs, "tag") {
                    Some(_) => self.client.push(Message {
                        name: serde(&item.attrs, "rename").expect("a type"),
                        doc,
                        fields,
                    }),
                    None => self.structs.push(Struct {
                        name: item.ident.to_string(),
                        doc,
                        fields,
                    }),
                }
            }
            Item::Enum(item) if serde(&item.attrs, "tag").is_some() => {
                let messages = item
                    .variants
                    .into_iter()
                    .filter(|variant| !is_other(&variant.attrs));
                let messages = messages.map(|variant| Message {
                    name: snake_case(&variant.ident.to_string()),
                    doc: doc(&variant.attrs),
                    fields: fields(variant.fields),
                });
                match item.ident.to_string().as_str() {
                    "ClientRequest" => self.client.extend(messages),
                    "ServerMessage" => self.server.extend(messages),
                    other => panic!("{other} is neither side's"),
                }
            }
            Item::Enum(item) if serde(&item.attrs, "rename_all").is_some() => {
                let values = item
                    .variants
                    .iter()
                    .filter(|variant| !is_other(&variant.attrs));
                let values = values
                    .map(|variant| (snake_case(&variant.ident.to_string()), doc(&variant.attrs)));
                self.enums.push(Enum {
                    name: item.ident.to_string(),
                    doc: doc(&item.attrs),
                    values: values.collect(),
                });
            }
            _ => {}
        }
    }

    /// Fails if an example of the server's is not what the server would write.
    pub fn check_examples(&self) {
        for message in &self.server {
            let example = &message.doc.example;
            let read = serde_json::from_str::<ServerMessage>(example);
            let read = read.unwrap_or_else(|error| panic!("{example}: {error}"));
            let written = serde_json::to_value(read).expect("a message is JSON");
            let example: Value = serde_json::from_str(example).expect("it was read");
            assert_eq!(written, example);
            assert_eq!(written["type"], *message.name);
        }
    }
}

fn fields(fields: Fields) -> Vec<Field> {
    let fields = fields.into_iter().map(|field| {
        let name = field.ident.expect("fields have names").to_string();
        let (kind, optional) = kind(&field.ty);
        let optional = optional || serde(&field.attrs, "default").is_some();
        Field {
            name: serde(&field.attrs, "rename").unwrap_or(name),
            doc: doc(&field.attrs),
            kind,
            optional,
        }
    });
    fields.collect()
}

/// Returns the kind of a type, and `true` if it is an `Option`.
fn kind(ty: &Type) -> (Kind, bool) {
    let Type::Path(path) = ty else {
        panic!("no kind is known for a type");
    };
    let last = path.path.segments.last().expect("a path has a name");
    let argument = || match &last.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
            Some(GenericArgument::Type(ty)) => ty,
            _ => panic!("{} has no type as its argument", last.ident),
        },
        _ => panic!("{} has no argument", last.ident),
    };
    let kind = match last.ident.to_string().as_str() {
        "Option" => return (kind(argument()).0, true),
        "T" | "String" | "SessionId" | "Arc" => Kind::Text,
        "MessageId" => Kind::Uuid,
        "bool" => Kind::Flag,
        "u64" | "usize" => Kind::Number,
        "Vec" => match kind(argument()).0 {
            Kind::Named(name) => Kind::List(name),
            other => panic!("no list is known of {other:?}"),
        },
        name => Kind::Named(name.to_owned()),
    };
    (kind, false)
}

/// Returns the value of `#[serde(name = "value")]`.
fn serde(attributes: &[Attribute], name: &str) -> Option<String> {
    let mut found = None;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
    {
        let parsed = attribute.parse_nested_meta(|meta| {
            let value = match meta.value() {
                Ok(value) => value.parse::<syn::LitStr>()?.value(),
                Err(_) => String::new(),
            };
            if meta.path.is_ident(name) {
                found = Some(value);
            }
            Ok(())
        });
        parsed.expect("serde takes it");
    }
    found
}

/// Returns `true` for what only a newer server sends.
fn is_other(attributes: &[Attribute]) -> bool {
    serde(attributes, "other").is_some()
}

fn doc(attributes: &[Attribute]) -> Doc {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(line),
                    ..
                }) => Some(line.value()),
                _ => None,
            },
            _ => None,
        });
    let (mut doc, mut in_example, mut in_title) = (Doc::default(), false, true);
    for line in lines {
        let line = line.strip_prefix(' ').unwrap_or(&line);
        if line.starts_with("```") {
            in_example = !in_example;
        } else if in_example {
            doc.example.push_str(line);
            doc.example.push('\n');
        } else if line.is_empty() {
            in_title = false;
        } else {
            let part = if in_title {
                &mut doc.title
            } else {
                &mut doc.rest
            };
            if !part.is_empty() {
                part.push(' ');
            }
            part.push_str(line);
        }
    }
    doc
}

/// `ToolUse` is `tool_use`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (place, c) in name.char_indices() {
        if c.is_uppercase() && place > 0 {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
