//! The live page: what a browser is given, and under which rules.

use crate::installation::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_from_the_gateway_alone_and_needs_no_credential() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let response = gateway.client.get(gateway.url("/")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = response.text().await.unwrap();
    assert!(!page.contains("href=\"http") && !page.contains("src=\"http"), "{page}");
    let files = page.split('"').filter(|it| it.starts_with("/page/"));
    let mut count = 0;
    for file in files {
        assert_eq!(gateway.get(file).await.0, 200, "{file}");
        count += 1;
    }
    assert!(count >= 4);
    assert_eq!(gateway.get("/page/no-such-file.js").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_module_that_one_imports_is_served_as_a_script() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let mut known = vec!["main.js".to_owned()];
    let mut at = 0;
    while let Some(file) = known.get(at).cloned() {
        let url = gateway.url(&format!("/page/{file}"));
        let response = gateway.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
        assert_eq!(response.headers()["content-type"], "text/javascript; charset=utf-8");
        let text = response.text().await.unwrap();
        for (_, rest) in
            text.match_indices("from \"./").map(|(at, it)| (it, &text[at + it.len()..]))
        {
            let name = rest.split('"').next().unwrap().to_owned();
            if !known.contains(&name) {
                known.push(name);
            }
        }
        at += 1;
    }
    assert!(known.len() > 10, "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_browser_has_already_is_not_sent_again() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let url = gateway.url("/page/style.css");
    let first = gateway.client.get(&url).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    let again = gateway.client.get(&url).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert!(again.bytes().await.unwrap().is_empty());
    let other = gateway.client.get(&url).header("if-none-match", "\"other\"").send().await.unwrap();
    assert_eq!(other.status(), 200);
}
