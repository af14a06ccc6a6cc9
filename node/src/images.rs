//! The `image` commands: what Glance's clients have no word for, because only a swarm has it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::Method;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cli::{AdminOptions, ImageCommand, PinOptions};
use crate::client::Client;

/// How often nodes are asked how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Times in a row that nothing more came anywhere before waiting is given up: a minute.
const LOOKS_WITHOUT_NEWS_MAX: usize = 120;

/// Carry one command out.
///
/// # Errors
///
/// What the node that was asked refuses, and when it cannot be asked.
pub async fn run(command: &ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Where { image, watch, admin } => {
            let client = Client::new(admin)?;
            if *watch {
                watch_until_whole(&client, image, None).await?;
            }
            show(&client, image, admin).await
        }
        ImageCommand::Prefetch { image, site, wait, admin } => {
            let client = Client::new(admin)?;
            let body = site.as_ref().map_or_else(|| json!({}), |site| json!({ "site": site }));
            let path = format!("{}/prefetch", path(image));
            let answer = client.ask(Method::POST, &path, Some(&body)).await?;
            let nodes: Vec<String> = words(&answer["nodes"]);
            if *wait {
                watch_until_whole(&client, image, Some(&nodes)).await?;
            }
            if admin.json {
                println!("{answer}");
            } else if nodes.is_empty() {
                println!("nothing to do: it is there already");
            } else if *wait {
                println!("done: {} node(s) have it now", nodes.len());
            } else {
                println!(
                    "{} node(s) fetch it now; `peerglass image where` shows how far they are",
                    nodes.len()
                );
            }
            Ok(())
        }
        ImageCommand::Pin(options) => change_pin(options, "pin", "pinned to").await,
        ImageCommand::Unpin(options) => change_pin(options, "unpin", "no longer pinned to").await,
    }
}

async fn change_pin(options: &PinOptions, action: &str, done: &str) -> anyhow::Result<()> {
    let body = options.site.as_ref().map_or_else(|| json!({}), |site| json!({ "site": site }));
    let path = format!("{}/{action}", path(&options.image));
    let answer = Client::new(&options.admin)?.ask(Method::POST, &path, Some(&body)).await?;
    if options.admin.json {
        println!("{answer}");
    } else {
        match answer["site"].as_str().filter(|site| !site.is_empty()) {
            Some(site) => println!("{done} site {site}"),
            None => println!("{done} every node"),
        }
    }
    Ok(())
}

fn path(image: &str) -> String {
    format!("/v2/cluster/images/{}", utf8_percent_encode(image, NON_ALPHANUMERIC))
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn show(client: &Client, image: &str, admin: &AdminOptions) -> anyhow::Result<()> {
    let answer = client.ask(Method::GET, &path(image), None).await?;
    if admin.json {
        println!("{answer:#}");
        return Ok(());
    }
    if answer["size"].is_null() {
        println!("this image has no data yet");
        return Ok(());
    }
    let cell =
        |copy: &Value, key| copy[key].as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    println!("{:<20}  {:<21}  {:<12}  {:<12}  {:<6}  HAS", "NODE", "ADDRESS", "SITE", "RACK", "IS");
    for copy in answer["copies"].as_array().into_iter().flatten() {
        let has = match copy["state"].as_str().unwrap_or_default() {
            "pulling" => format!("{:.0} %, and fetches the rest", share(copy) * 100.0),
            "none" => "nothing".to_owned(),
            "unknown" => "? (no answer)".to_owned(),
            state => state.to_owned(),
        };
        println!(
            "{:<20}  {:<21}  {:<12}  {:<12}  {:<6}  {has}",
            cell(copy, "node"),
            cell(copy, "address"),
            cell(copy, "site"),
            cell(copy, "rack"),
            cell(copy, "keeping"),
        );
    }
    let pins = answer["pins"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let pins: Vec<&str> = pins.map(|site| if site.is_empty() { "every node" } else { site }).collect();
    if !pins.is_empty() {
        println!("pinned to {}", pins.join(", "));
    }
    Ok(())
}

/// From 0 to 1.
fn share(copy: &Value) -> f64 {
    match (copy["pieces"].as_u64(), copy["pieces_of"].as_u64()) {
        (Some(pieces), Some(of)) if of > 0 => pieces as f64 / of as f64,
        _ => 0.0,
    }
}

/// Draw a bar for each node that fetches it until all have it: those that fetch it now, or `nodes`.
async fn watch_until_whole(client: &Client, image: &str, nodes: Option<&[String]>) -> anyhow::Result<()> {
    let bars = Bars::new();
    let mut before = Vec::new();
    let mut without_news = 0;
    loop {
        let answer = client.ask(Method::GET, &path(image), None).await?;
        let size = answer["size"].as_u64().context("this image has no data")?;
        let copies = answer["copies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let waited_for = |copy: &&Value| match nodes {
            Some(nodes) => nodes.iter().any(|node| copy["node"] == **node),
            None => copy["state"] == "pulling" || bars.has(copy),
        };
        let watched: Vec<&Value> = copies.iter().filter(waited_for).collect();
        watched.iter().for_each(|copy| bars.draw(copy, size));
        if watched
            .iter()
            .all(|copy| copy["state"] == "whole" || (nodes.is_none() && copy["state"] != "pulling"))
        {
            bars.finish();
            return Ok(());
        }
        let now: Vec<Value> = watched.iter().map(|copy| copy["pieces"].clone()).collect();
        without_news = if now == before { without_news + 1 } else { 0 };
        if without_news > LOOKS_WITHOUT_NEWS_MAX {
            bail!("nothing has come anywhere for a minute; the logs of the nodes that fetch it say why");
        }
        before = now;
        sleep(LOOK_EVERY).await;
    }
}

/// A bar for each node, on a terminal; elsewhere nothing.
struct Bars {
    all: MultiProgress,
    bars: std::cell::RefCell<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::new(), bars: std::cell::RefCell::default() }
    }

    fn has(&self, copy: &Value) -> bool {
        copy["node"].as_str().is_some_and(|node| self.bars.borrow().contains_key(node))
    }

    fn draw(&self, copy: &Value, size: u64) {
        let Some(node) = copy["node"].as_str() else { return };
        let mut bars = self.bars.borrow_mut();
        let bar = bars.entry(node.to_owned()).or_insert_with(|| {
            let bar = if stderr().is_terminal() {
                self.all.add(ProgressBar::new(size))
            } else {
                ProgressBar::hidden()
            };
            let look = "{msg:>21} {wide_bar} {bytes:>10} of {total_bytes} {bytes_per_sec:>12} {eta:>5}";
            if let Ok(style) = ProgressStyle::with_template(look) {
                bar.set_style(style);
            }
            let name = copy["address"].as_str().filter(|address| !address.is_empty()).unwrap_or(node);
            bar.set_message(name.to_owned());
            bar
        });
        bar.set_position((share(copy) * size as f64) as u64);
    }

    fn finish(&self) {
        self.bars.borrow().values().for_each(|bar| bar.abandon());
    }
}
