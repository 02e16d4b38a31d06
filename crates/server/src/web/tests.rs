use super::*;

#[test]
fn every_route_is_described() {
    // The router itself can not be listed: each route of that file must be in the description.
    let source = include_str!("mod.rs");
    let described: Vec<_> = control::document().paths.paths.keys().cloned().collect();
    let routes: Vec<_> = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() >= 6);
    for route in routes.into_iter().filter(|route| *route != "/api/openapi.json") {
        assert!(described.iter().any(|path| path == route), "{route} is not in {described:?}");
    }
}
