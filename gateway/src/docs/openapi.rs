//! The API's description (OpenAPI 3.1), gathered from the handlers.

use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;

#[derive(OpenApi)]
#[openapi(info(
    title = "Tallyman",
    description = "Takes user actions over HTTP and answers once Kafka has them; each is counted exactly once."
))]
struct Api;

pub fn document() -> Document {
    Api::openapi()
}
