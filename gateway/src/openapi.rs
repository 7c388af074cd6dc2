//! The OpenAPI 3.1 document, made from the routes.
//!
//! What each route can answer is known from its kind (a path parameter can name nothing, a body can be too large), so it
//! is written here once and not at every route.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::Method;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::edge::door::Class;
use crate::error::{Problem, Violation};
use crate::routes::{self, Groups};

const BEARER: &str = "bearer";

/// Describes every public route.
pub fn openapi() -> OpenApi {
    let Groups {
        public,
        member,
        account,
        upload,
        stream,
        open,
    } = routes::groups();
    let mut document = OpenApiBuilder::new()
        .info(info())
        .components(Some(components()))
        .build();
    for (group, class) in [
        (public, Some(Class::Public)),
        (member, Some(Class::Member)),
        (account, Some(Class::Account)),
        (upload, Some(Class::Member)),
        (stream, Some(Class::Stream)),
        (open, None),
    ] {
        let mut part = group.into_openapi();
        for (path, item) in &mut part.paths.paths {
            for (method, operation) in operations(item) {
                complete(path, method, operation, class);
            }
        }
        document.merge(part);
    }
    document
}

/// The document as it is served.
pub(crate) fn document() -> Bytes {
    // The document is built of maps and strings only, which always have a JSON form.
    serde_json::to_vec(&openapi()).unwrap_or_default().into()
}

/// The names of the query parameters that operations take, by method and path.
pub(crate) type QueryParameters = HashMap<(Method, String), HashSet<String>>;

/// What the document says about query parameters.
pub(crate) fn query_parameters() -> QueryParameters {
    let mut known = QueryParameters::new();
    for (path, item) in &mut openapi().paths.paths {
        for (method, operation) in operations(item) {
            let Ok(method) = method.to_ascii_uppercase().parse() else {
                continue;
            };
            let names =
                operation
                    .parameters
                    .iter()
                    .flatten()
                    .filter_map(|parameter| match parameter {
                        RefOr::T(one) if one.parameter_in == ParameterIn::Query => {
                            Some(one.name.clone())
                        }
                        _ => None,
                    });
            known.insert((method, path.clone()), names.collect());
        }
    }
    known
}

/// The operations of a path with the names of their methods.
pub(crate) fn operations(
    item: &mut PathItem,
) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn info() -> Info {
    let mut info = Info::new("Coffer API", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Wallet, notifications and schedules. Money is `{amount_minor, currency}`, times are RFC 3339 in UTC, ids are \
         UUIDs. Lists are `{data, next_cursor}`. Errors are problem documents (RFC 9457) with a stable `code`. Unknown \
         fields and parameters are refused."
            .to_owned(),
    );
    info
}

fn components() -> Components {
    let mut components = Components::new();
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    components
        .schemas
        .insert(Violation::name().into_owned(), Violation::schema());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    components
}

/// Adds what follows from the kind of an operation.
fn complete(path: &str, method: &str, operation: &mut Operation, class: Option<Class>) {
    let name: String = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("_");
    operation.operation_id = Some(format!("{method}_{name}"));

    let has_body = operation.request_body.is_some();
    let is_keyed = describe_key(operation);
    let is_member = matches!(class, Some(Class::Member | Class::Account));
    if is_member {
        let required: SecurityRequirement =
            SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []);
        operation.security = Some(vec![required]);
    }
    for (status, applies, description) in [
        (
            "400",
            true,
            "Malformed, or a field or parameter is invalid; `violations` names each",
        ),
        (
            "401",
            is_member,
            "The access token is missing, invalid, expired or revoked",
        ),
        (
            "404",
            path.contains("{id}"),
            "There is no such thing, or it is not yours",
        ),
        ("408", has_body, "The body took too long to arrive"),
        ("409", is_keyed, "Refused by a rule; `code` says which"),
        ("413", has_body, "The body is too large"),
        ("415", has_body, "The body is of another type"),
        (
            "422",
            is_keyed,
            "The idempotency key was used before with another request",
        ),
        (
            "429",
            class.is_some(),
            "The quota is used up; see `Retry-After`",
        ),
        ("500", true, "A fault of ours"),
        ("503", true, "Not at the moment; see `Retry-After`"),
    ] {
        let responses = &mut operation.responses.responses;
        if applies && !responses.contains_key(status) {
            responses.insert(status.to_owned(), RefOr::T(Response::new(description)));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let is_error = status.starts_with(['4', '5']);
        if let RefOr::T(response) = response
            && is_error
            && response.content.is_empty()
        {
            *response = problem(&response.description);
        }
    }
}

fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build()
}

/// Describes the idempotency key of an operation that takes one, and the mark of its replayed answers.
fn describe_key(operation: &mut Operation) -> bool {
    let is_key = |parameter: &&mut RefOr<Parameter>| {
        matches!(parameter, RefOr::T(parameter)
            if parameter.parameter_in == ParameterIn::Header && parameter.name == "Idempotency-Key")
    };
    let parameters = operation.parameters.as_mut().map(|all| all.iter_mut());
    let Some(RefOr::T(key)) = parameters.and_then(|mut all| all.find(is_key)) else {
        return false;
    };
    key.description = Some(
        "1 to 255 visible ASCII characters of your choice. The same key with the same request gets the first answer \
         again, marked by `Idempotency-Replayed: true`."
            .to_owned(),
    );
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn json() -> Value {
        serde_json::from_slice(&document()).unwrap()
    }

    fn each_operation(document: &Value) -> Vec<(String, String, Value)> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                all.push((path.clone(), method.clone(), operation.clone()));
            }
        }
        all
    }

    #[test]
    fn it_is_openapi_3_1_with_unique_operation_ids() {
        let document = json();
        assert_eq!(document["openapi"], "3.1.0");
        let operations = each_operation(&document);
        let ids: BTreeSet<_> = operations
            .iter()
            .map(|(.., op)| op["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), operations.len());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = json();
        fn walk<'a>(node: &'a Value, found: &mut Vec<&'a str>) {
            match node {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let mut references = Vec::new();
        walk(&document, &mut references);
        assert!(references.len() > 50);
        for reference in references {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_says_how_it_fails() {
        for (path, method, operation) in each_operation(&json()) {
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses {
                if status.starts_with(['4', '5']) && path != "/health/ready" {
                    let schema = &response["content"]["application/problem+json"]["schema"];
                    assert_eq!(
                        schema["$ref"], "#/components/schemas/Problem",
                        "{name} {status}"
                    );
                }
            }
            let is_secured = operation["security"].is_array();
            assert!(responses.contains_key("401") || !is_secured, "{name}");
            if path.starts_with("/v1/") {
                assert!(responses.contains_key("429"), "{name}");
            }
        }
    }

    #[test]
    fn keys_are_required_where_money_moves() {
        let keyed: BTreeSet<_> = each_operation(&json())
            .into_iter()
            .filter(|(.., operation)| {
                operation["parameters"].as_array().is_some_and(|all| {
                    all.iter()
                        .any(|one| one["name"] == "Idempotency-Key" && one["required"] == true)
                })
            })
            .map(|(path, method, _)| format!("{method} {path}"))
            .collect();
        let wanted = [
            "post /v1/accounts",
            "post /v1/deposits",
            "post /v1/sms/schedules",
            "post /v1/transfers",
        ];
        assert_eq!(keyed, wanted.map(String::from).into());
    }
}
