//! The document of the API: made from the handlers, so that it cannot say anything else than they do.

use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use wharf_shared::auth::SESSION_COOKIE;
use wharf_shared::problem::Problem;

use super::problem::PROBLEM_JSON;

/// What the handlers do not say.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Wharfage",
        description = "A container host you can bill from. Errors are RFC 9457 problems. Browsers send the \
            session cookie and, with every change, the header x-wharf-csrf; tools send a bearer token."
    ),
    components(schemas(Problem)),
    modifiers(&Doors)
)]
pub(super) struct Base;

struct Doors;

impl Modify for Doors {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let cookie = ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        let no_scopes: [&str; 0] = [];
        document.security =
            Some(["bearer", "session"].map(|scheme| SecurityRequirement::new(scheme, no_scopes)).into());
    }
}

/// Adds to every operation that it may answer with a problem, and makes its id one of its own: the
/// noun, a dot, and the handler's name.
pub(super) fn complete(mut document: Document) -> Document {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("What went wrong, and what to do")
        .content(PROBLEM_JSON, content)
        .build();
    for (path, item) in &mut document.paths.paths {
        let noun = path.trim_start_matches("/api/v1/").split(['/', '.']).next().unwrap_or_default();
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(problem.clone()));
            operation.operation_id = operation.operation_id.take().map(|handler| format!("{noun}.{handler}"));
        }
    }
    document
}
