//! Uploads: whole ones, broken ones, and two at once.

use bytes::Bytes;
use futures::future::join;

use super::client::{Client, PATIENCE_FOR_BYTES, path};
use super::content::{Content, ContentId};
use super::request::{self, Sending};
use crate::dice::Dice;
use crate::network::{Answer, Wire};
use crate::oracle::state::Op;
use crate::oracle::{Asked, Ending};

/// Images of one run that may have the very same bytes as an earlier one, in 1,000.
const TWINS: u64 = 200;

impl Client {
    /// `PUT …/file`, sometimes hanging up in the middle.
    pub(crate) async fn upload(&mut self, image: &str) {
        let mut sending = self.sending();
        if self.dice.chance(250) {
            let size = self.content_bytes(sending.content).len();
            // Never after the last byte: a complete body may well be taken.
            sending.cut_after = (size > 0).then(|| self.dice.index(size));
        }
        self.send(image, sending).await;
    }

    /// `PUT …/file` of all bytes.
    pub(crate) async fn upload_whole(&mut self, image: &str) -> Ending {
        let sending = self.sending();
        self.send(image, sending).await
    }

    /// `PUT …/file`, hanging up after `cut_after` bytes or before the last.
    pub(crate) async fn upload_cut(&mut self, image: &str, announced: bool) {
        let mut sending = self.sending();
        // Nothing is not less than everything of an empty image.
        while self.content_bytes(sending.content).is_empty() {
            sending = self.sending();
        }
        let size = self.content_bytes(sending.content).len();
        let cut_after = Some(self.dice.index(size));
        self.send(image, Sending { announced, cut_after, ..sending }).await;
    }

    /// Two uploads to one image at once, perhaps through two nodes: at most one may win (SC-05).
    pub(super) async fn race(&mut self, image: &str) {
        let (one, other) = (self.sending(), self.sending());
        let (asked, bytes, dice) = self.prepare(image, one);
        let (asked_too, bytes_too, dice_too) = self.prepare(image, other);
        self.scene.chronicle.count("two uploads to one image at once");
        let file = format!("{}/file", path(image));
        let mut second = Wire::new(self.dice.index(self.scene.nodes), self.scene.crashes.clone());
        let (answer, answer_too) = join(
            self.wire.ask(request::upload(&file, bytes, one, dice), PATIENCE_FOR_BYTES),
            second.ask(request::upload(&file, bytes_too, other, dice_too), PATIENCE_FOR_BYTES),
        )
        .await;
        self.finish(image, asked, one, &answer);
        self.finish(image, asked_too, other, &answer_too);
    }

    async fn send(&mut self, image: &str, sending: Sending) -> Ending {
        let (asked, bytes, dice) = self.prepare(image, sending);
        let file = format!("{}/file", path(image));
        let answer = self.wire.ask(request::upload(&file, bytes, sending, dice), PATIENCE_FOR_BYTES).await;
        self.finish(image, asked, sending, &answer)
    }

    fn prepare(&mut self, image: &str, sending: Sending) -> (Asked, Bytes, Dice) {
        let op = match sending.cut_after {
            None => Op::Upload(sending.content),
            Some(_) => Op::CutUpload,
        };
        let asked = self.scene.oracle().ask(image, "PUT file", op);
        let dice = Dice::new(self.dice.number(), "pieces");
        (asked, self.content_bytes(sending.content), dice)
    }

    fn finish(&mut self, image: &str, asked: Asked, sending: Sending, answer: &Answer) -> Ending {
        self.note(&format!("PUT file {image} {sending:?}"), answer);
        let ending = self.end(asked, answer);
        if sending.cut_after.is_some() {
            self.scene.chronicle.count("client hung up in an upload");
        }
        if ending == Ending::NoRoom {
            self.scene.chronicle.count("upload refused by a full disk");
        }
        // What the node did not read of the body is still on its way.
        if ending != Ending::Done {
            self.wire.hang_up();
            self.roam(answer);
        }
        ending
    }

    fn sending(&mut self) -> Sending {
        let known = self.scene.oracle().contents.len();
        let content = if known > 0 && self.dice.chance(TWINS) {
            ContentId(self.dice.index(known))
        } else {
            let content = Content::draw(self.scene.seed, &mut self.dice);
            self.scene.oracle().contents.push(content);
            ContentId(known)
        };
        Sending { content, announced: self.dice.chance(500), cut_after: None }
    }

    fn content_bytes(&self, content: ContentId) -> Bytes {
        self.scene.oracle().contents[content.0].bytes.clone()
    }
}
