use super::*;

#[test]
fn the_committed_openapi_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let text = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("WALT_UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        committed == text,
        "docs/openapi.json is out of date: WALT_UPDATE_OPENAPI=1 cargo test -p walt-server openapi"
    );
}

#[test]
fn every_route_is_described() {
    // The router itself can not be listed: each route of this file must be in the description.
    let source = include_str!("mod.rs");
    let described: Vec<_> = document().paths.paths.keys().cloned().collect();
    let routes = source.split("\"/v1/").skip(1).filter_map(|rest| Some(format!("/v1/{}", rest.split('"').next()?)));
    for route in routes {
        assert!(described.contains(&route), "{route} is not in {described:?}");
    }
}
