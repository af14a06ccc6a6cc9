//! Tells a connection's record what its socket takes.
//!
//! What leaves is HTTP/1.1 or HTTP/2 frames. Of the latter, only the payload of DATA frames is of a body,
//! so the heads of frames are read as they pass.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::Progress;

/// Length of a frame's head: three bytes of length, one of type, five that do not matter here.
const HEAD_BYTES: usize = 9;
/// The type of a frame that carries a body.
const DATA: u8 = 0;

/// A connection whose writes are recorded.
pub(super) struct Metered<I> {
    io: I,
    progress: Progress,
    sent: Sent,
}

impl<I> Metered<I> {
    pub(super) fn new(io: I, progress: Progress) -> Self {
        Self { io, progress, sent: Sent::Nothing }
    }

    fn record(&mut self, polled: &Poll<io::Result<usize>>, slices: &[io::IoSlice<'_>]) {
        match polled {
            Poll::Ready(Ok(taken)) => {
                let moved = self.sent.take(slices, *taken);
                self.progress.wrote(moved);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.progress.blocked(),
        }
    }
}

/// What has been written so far.
enum Sent {
    Nothing,
    Http1,
    Http2(Frames),
}

/// Where in a sequence of frames the last byte was.
#[derive(Default)]
struct Frames {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    payload_left: usize,
}

impl Sent {
    /// Whether the first `taken` bytes of `slices` have some of a body.
    fn take(&mut self, slices: &[io::IoSlice<'_>], mut taken: usize) -> bool {
        let mut moved = false;
        for slice in slices {
            let (bytes, _) = slice.split_at(taken.min(slice.len()));
            taken -= bytes.len();
            moved |= self.take_one(bytes);
        }
        moved
    }

    fn take_one(&mut self, bytes: &[u8]) -> bool {
        let Some(first) = bytes.first() else { return false };
        if matches!(self, Self::Nothing) {
            // HTTP/2 begins with a frame of settings, which is short: its length begins with zero.
            *self = if *first == 0 { Self::Http2(Frames::default()) } else { Self::Http1 };
        }
        match self {
            Self::Nothing => false,
            Self::Http1 => true,
            Self::Http2(frames) => frames.take(bytes),
        }
    }
}

impl Frames {
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut moved = false;
        while !bytes.is_empty() {
            if self.payload_left == 0 {
                let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head_bytes));
                self.head[self.head_bytes..][..head.len()].copy_from_slice(head);
                self.head_bytes += head.len();
                bytes = rest;
                if self.head_bytes == HEAD_BYTES {
                    self.head_bytes = 0;
                    let [high, middle, low, ..] = self.head;
                    self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                }
            } else {
                let (payload, rest) = bytes.split_at(bytes.len().min(self.payload_left));
                self.payload_left -= payload.len();
                bytes = rest;
                moved |= self.head[3] == DATA;
            }
        }
        moved
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.record(&polled, &[io::IoSlice::new(bytes)]);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.record(&polled, slices);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + payload, 0);
        frame
    }

    /// However the bytes are cut, those of bodies are told from the others.
    #[test]
    fn only_payload_of_data_frames_is_of_a_body() {
        let mut bytes = [frame(4, 6), frame(6, 8), frame(0, 0), frame(1, 70_000)].concat();
        let head = bytes.len() + HEAD_BYTES;
        bytes.extend(frame(0, 3));
        let end = bytes.len();
        bytes.extend(frame(8, 4));
        for step in [1, 2, 7, 9, 10, 1000] {
            let mut sent = Sent::Nothing;
            let mut at = 0;
            for piece in bytes.chunks(step) {
                let (first, second) = piece.split_at(piece.len() / 2);
                let slices = [io::IoSlice::new(first), io::IoSlice::new(second)];
                let moved = sent.take(&slices, piece.len());
                let expected = at < end && at + piece.len() > head;
                assert_eq!(moved, expected, "bytes {at} and following, by {step}");
                at += piece.len();
            }
        }
    }

    #[test]
    fn what_was_not_taken_does_not_count() {
        let mut sent = Sent::Nothing;
        let settings = frame(4, 0);
        let data = frame(0, 5);
        let slices = [io::IoSlice::new(&settings), io::IoSlice::new(&data)];
        assert!(!sent.take(&slices, 2 * HEAD_BYTES));
        assert!(sent.take(&[io::IoSlice::new(&data[HEAD_BYTES..])], 1));
        assert!(Sent::Nothing.take(&[io::IoSlice::new(b"HTTP/1.1 200 OK")], 4));
    }
}
