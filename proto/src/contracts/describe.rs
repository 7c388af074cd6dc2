//! From descriptors.

use std::collections::HashMap;

use prost::{DecodeError, Message as _};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};

use super::{Contracts, Entry, Enum, Field, Message, Reserved};

/// Packages that are not ours.
const FOREIGN: &str = "google.";

impl Contracts {
    /// The contracts of this crate as they are now.
    ///
    /// # Errors
    /// Never in practice: the compiler has just encoded them.
    pub fn current() -> Result<Self, DecodeError> {
        Ok(Self::of(&FileDescriptorSet::decode(
            crate::FILE_DESCRIPTOR_SET,
        )?))
    }

    /// The contracts that these descriptors hold.
    pub fn of(set: &FileDescriptorSet) -> Self {
        let mut contracts = Self::default();
        for file in &set.file {
            let package = file.package();
            if format!("{package}.").starts_with(FOREIGN) {
                continue;
            }
            for message in &file.message_type {
                contracts.add_message(package, message);
            }
            for one in &file.enum_type {
                contracts.add_enum(package, one);
            }
            for service in &file.service {
                let methods = service_of(service);
                contracts.add(full_name(package, service.name()), methods);
            }
        }
        contracts
    }

    fn add(&mut self, name: String, entry: Entry) {
        self.entries.insert(name, entry);
    }

    fn add_message(&mut self, parent: &str, message: &DescriptorProto) {
        let name = full_name(parent, message.name());
        let maps: HashMap<String, &DescriptorProto> = message
            .nested_type
            .iter()
            .filter(|nested| is_map(nested))
            .map(|nested| (full_name(&name, nested.name()), nested))
            .collect();
        let fields = message.field.iter().map(|field| {
            let described = Field {
                kind: kind_of(field, &maps),
                name: name_of(field),
                oneof: oneof_of(field, message),
            };
            (field.number(), described)
        });
        let reserved = Reserved {
            numbers: message
                .reserved_range
                .iter()
                // The end is not part of the range.
                .map(|range| (range.start(), range.end() - 1))
                .collect(),
            names: message.reserved_name.iter().cloned().collect(),
        };
        let described = Message {
            fields: fields.collect(),
            reserved,
        };
        for nested in message.nested_type.iter().filter(|nested| !is_map(nested)) {
            self.add_message(&name, nested);
        }
        for nested in &message.enum_type {
            self.add_enum(&name, nested);
        }
        self.add(name, Entry::Message(described));
    }

    fn add_enum(&mut self, parent: &str, described: &EnumDescriptorProto) {
        let values = described.value.iter();
        let entry = Enum {
            values: values
                .map(|value| (value.name().to_owned(), value.number()))
                .collect(),
            reserved: Reserved {
                numbers: described
                    .reserved_range
                    .iter()
                    .map(|range| (range.start(), range.end()))
                    .collect(),
                names: described.reserved_name.iter().cloned().collect(),
            },
        };
        self.add(full_name(parent, described.name()), Entry::Enum(entry));
    }
}

fn full_name(parent: &str, name: &str) -> String {
    match parent {
        "" => name.to_owned(),
        parent => format!("{parent}.{name}"),
    }
}

fn is_map(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
}

/// The name, and that in JSON where it is another than what follows from the name.
fn name_of(field: &FieldDescriptorProto) -> String {
    let mut words = field.name().split('_');
    let mut usual = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        usual.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        usual.push_str(letters.as_str());
    }
    match field.json_name() {
        json if json.is_empty() || json == usual => field.name().to_owned(),
        json => format!("{}[{json}]", field.name()),
    }
}

/// Label and type.
fn kind_of(field: &FieldDescriptorProto, maps: &HashMap<String, &DescriptorProto>) -> String {
    let type_name = field.type_name().trim_start_matches('.');
    if let Some(map) = maps.get(type_name)
        && let [key, value] = map.field.as_slice()
    {
        return format!("map<{}, {}>", type_of(key), type_of(value));
    }
    let label = match field.label() {
        Label::Repeated => "repeated ",
        Label::Required => "required ",
        // In proto3 the label of every field, whether it is written or not.
        Label::Optional if field.proto3_optional() => "optional ",
        Label::Optional => "",
    };
    format!("{label}{}", type_of(field))
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => {
            field.type_name().trim_start_matches('.').to_owned()
        }
        plain => plain
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_ascii_lowercase(),
    }
}

fn oneof_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> Option<String> {
    if field.proto3_optional() {
        // One that the compiler made for it.
        return None;
    }
    let index = usize::try_from(field.oneof_index?).ok()?;
    Some(message.oneof_decl.get(index)?.name().to_owned())
}

fn service_of(service: &ServiceDescriptorProto) -> Entry {
    let methods = service.method.iter();
    Entry::Service(
        methods
            .map(|method| (method.name().to_owned(), signature_of(method)))
            .collect(),
    )
}

fn signature_of(method: &MethodDescriptorProto) -> String {
    let side = |is_stream: bool, name: &str| {
        let stream = if is_stream { "stream " } else { "" };
        format!("({stream}{})", name.trim_start_matches('.'))
    };
    let request = side(method.client_streaming(), method.input_type());
    let response = side(method.server_streaming(), method.output_type());
    format!("{request} returns {response}")
}
