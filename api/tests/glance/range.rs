//! Parts of an image over HTTP. Every form of the header is in the unit tests.

use crate::node::node;

#[tokio::test]
async fn a_part_is_announced_as_one() {
    let node = node().await;
    let id = node.create_with(b"0123456789").await;
    let file = format!("/v2/images/{id}/file");
    let whole = node.get(&file).await.expect(200);
    let md5 = whole.header("content-md5").unwrap().to_owned();
    for (name, value, range, text) in [
        ("range", "bytes=0-3", "bytes 0-3/10", "0123"),
        ("range", "bytes=4-", "bytes 4-9/10", "456789"),
        ("range", "bytes=-3", "bytes 7-9/10", "789"),
        ("range", "bytes=-30", "bytes 0-9/10", "0123456789"),
        ("range", "bytes=9-20", "bytes 9-9/10", "9"),
        ("content-range", "bytes 1-3/10", "bytes 1-3/10", "123"),
        ("content-range", "bytes 1-3/*", "bytes 1-3/10", "123"),
    ] {
        let part = node.with(name, value).get(&file).await.expect(206);
        assert_eq!(part.text(), text, "{value}");
        assert_eq!(part.header("content-range"), Some(range), "{value}");
        assert_eq!(part.header("content-length"), Some(text.len().to_string().as_str()));
        assert_eq!(part.header("content-md5"), Some(md5.as_str()));
    }
    for (name, value, status) in [
        ("range", "bytes=10-", 416),
        ("range", "bytes=5-2", 416),
        ("range", "items=0-1", 416),
        ("range", "junk", 416),
        ("range", "bytes=0-1,3-4", 400),
        ("content-range", "bytes 5-20/*", 416),
        ("content-range", "bytes */10", 416),
    ] {
        let reply = node.with(name, value).get(&file).await.expect(status);
        let wanted = (status == 416).then_some("bytes */10");
        assert_eq!(reply.header("content-range"), wanted, "{value}");
    }
}

/// RB-42.
#[tokio::test]
async fn conditions_that_do_not_hold_send_everything() {
    let node = node().await;
    let id = node.create_with(b"0123456789").await;
    let file = format!("/v2/images/{id}/file");
    let etag = node.get(&file).await.header("etag").unwrap().to_owned();
    let part = node.with("range", "bytes=0-1");
    part.with("if-range", &etag).get(&file).await.expect(206);
    for validator in ["\"other\"", "garbage", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        assert_eq!(part.with("if-range", validator).get(&file).await.expect(200).body.len(), 10);
    }
    node.with("if-match", "garbage").get(&file).await.expect(200);
}
