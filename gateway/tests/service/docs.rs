//! What people read in a browser: the API to click through and the page of each error.

use crate::installation::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn the_docs_come_from_the_gateway_alone() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    let (status, page) = gateway.get("/docs").await;
    assert_eq!(status, 200);
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert!(page.contains(file), "{file}");
        let (status, text) = gateway.get(&format!("/docs/{file}")).await;
        assert!(status == 200 && !text.is_empty(), "{file}");
    }
    let (_, start) = gateway.get("/docs/swagger-initializer.js").await;
    assert!(
        start.contains("/openapi.json") && start.contains("\"validatorUrl\": \"none\""),
        "{start}"
    );
    assert_eq!(gateway.get("/docs/no-such-file").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_a_problem_is_the_address_of_its_page() {
    let tallyman = Installation::new().await;
    let gateway = tallyman.start(&[]).await;
    for body in [r#"{"userId":"u"}"#, "[]", "{"] {
        let refused = gateway.submit(body).await;
        let (status, page) = gateway.get(refused.json["type"].as_str().unwrap()).await;
        assert_eq!(status, 200, "{body}");
        assert!(page.contains(refused.json["code"].as_str().unwrap()));
    }
    let (status, list) = gateway.get("/docs/errors").await;
    assert!(status == 200 && list.contains("/docs/errors/missing_type"));
    assert_eq!(gateway.get("/docs/errors/no_such_code").await.0, 404);
}
