//! Problems as answers.

use api::{Problem, ProblemKind};
use axum::Json;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// A [`Problem`] as an answer.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}

pub(crate) fn problem(kind: ProblemKind, message: impl Into<String>, hint: Option<&str>) -> Problem {
    Problem { kind, message: message.into(), hint: hint.map(str::to_owned) }
}

pub(crate) async fn no_such_route(uri: Uri) -> Refused {
    let message = format!("there is no {} in this API", uri.path());
    Refused(problem(ProblemKind::BadRequest, message, Some("/openapi.json describes the API")))
}
