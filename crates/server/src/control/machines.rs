//! Virtual nodes: making them, and their consoles.

use std::sync::Arc;

use api::{CreateRequest, Node, Problem, ProblemKind};
use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use net::MacAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{Refused, problem};
use super::caller::Caller;
use super::nodes::node_of;
use crate::machines::{Attached, Heard};
use crate::registration::Input;
use crate::site::Site;

/// What the connection of a console is called when HTTP has ended on it.
const PROTOCOL: &str = "walt-console";

/// Makes a virtual node and switches it on.
#[utoipa::path(post, path = "/v1/nodes", request_body = CreateRequest,
    responses((status = 200, body = Node), (status = 400, body = Problem), (status = 409, body = Problem),
              (status = 501, body = Problem)))]
pub(crate) async fn create(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<CreateRequest>,
) -> Result<Json<Node>, Refused> {
    site.machines().check()?;
    let user = caller.user().await?;
    let mac = some_mac()?;
    site.request(Input::Create { mac, name: request.name.clone(), config: request.settings }).await?;
    site.tell(format!("{} is a new virtual node, made by {user}", request.name));
    // It has another address if a device with this one came first.
    let mac = site.state().registrar.find_node(&request.name)?;
    Ok(Json(node_of(&site, mac)?))
}

/// One of QEMU's usual addresses, by chance.
fn some_mac() -> Result<MacAddr, Problem> {
    let failed = |cause: rustix::io::Errno| {
        problem(ProblemKind::Internal, format!("the system gives no random numbers: {cause}"), None)
    };
    let mut chance = [0; 3];
    rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty()).map_err(failed)?;
    Ok(MacAddr([0x52, 0x54, 0, chance[0], chance[1], chance[2]]))
}

/// The console of a virtual node: from the answer's head on, the connection is its serial port, in both directions. What
/// was shown last comes first.
#[utoipa::path(get, path = "/v1/nodes/{node}/console",
    params(("node" = String, Path, description = "name, mac or ip"),
           ("Upgrade" = String, Header, description = "`walt-console`")),
    responses((status = 101, description = "the console follows"), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 501, body = Problem)))]
pub(crate) async fn console(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Refused> {
    let mac = site.state().registrar.find_node(&name)?;
    let Some(attached) = site.machines().attach(mac) else {
        let message = format!("{name} is no virtual node: the server is not connected to its console");
        let hint = "what its kernel says is in the logs if it has netconsole: `walt log show --history -10m: --streams netconsole`";
        return Err(problem(ProblemKind::Unsupported, message, Some(hint)).into());
    };
    if request.headers().get(UPGRADE).is_none_or(|wanted| wanted != PROTOCOL) {
        let message = format!("a console is no page: ask with `Connection: upgrade` and `Upgrade: {PROTOCOL}`");
        return Err(problem(ProblemKind::BadRequest, message, Some("`walt node console` does")).into());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => pass_on(TokioIo::new(connection), attached).await,
            Err(error) => tracing::debug!(%error, "a console was not taken"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// Until the client or the node has gone.
async fn pass_on(connection: TokioIo<hyper::upgrade::Upgraded>, mut attached: Attached) {
    let (mut reading, mut writing) = tokio::io::split(connection);
    let input = attached.input();
    let typing = async {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = reading.read(&mut piece).await {
            if input.send(piece[..read].to_vec().into()).await.is_err() {
                return;
            }
        }
    };
    let showing = async {
        let mut next = Heard::Bytes(std::mem::take(&mut attached.scroll_back).into());
        loop {
            let written = match &next {
                Heard::Bytes(bytes) => writing.write_all(bytes).await,
                Heard::Lost => {
                    writing.write_all(b"\r\n[output was lost here: it came faster than it was read]\r\n").await
                }
                Heard::Gone => return,
            };
            if written.is_err() {
                return;
            }
            next = attached.next().await;
        }
    };
    tokio::select! {
        () = typing => {}
        () = showing => {}
    }
}
