//! Answers list queries from the indexes.
//!
//! # What a page costs
//!
//! * Sorted by one key in one direction, without filters or with one that an index answers: what the
//!   page holds, whatever the catalog holds. Glance's default order with an exact `id`, `name`,
//!   `tag`, custom property, format or `status`, and an administrator's with an `owner`, are such queries.
//! * With further filters: the page plus the images read and left out on the way.
//! * An indexed filter under another order than the default: as many records as match the filter.
//! * Several keys that no index combines, or mixed directions: every record the caller may see.
//!
//! Memory is bounded by the page in every case, and a page by [`PAGE_BYTES_MAX`]: one of large records
//! ends early and says that another follows.

use super::plan::{Order, Plan};
use super::select::{is_wanted, order, ready};
use super::{Direction, ImageQuery, Page, QueryError};
use crate::image::{Image, ImageId};
use crate::keyspace::{Entries, Fault, KeyRange, Read};
use crate::table;

/// Most bytes of text in a page's records. A record may hold megabytes of properties, and a thousand
/// of those on each of many connections would be all of a machine's memory.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// One page of the images that `query` describes.
pub(crate) fn list(read: &dyn Read, query: &ImageQuery) -> Result<Page, QueryError> {
    let marker = match &query.marker {
        None => None,
        Some(id) => match table::image(read, id)? {
            Some(image) if image.is_visible_to(&query.viewer) => Some(image),
            Some(_) | None => return Err(QueryError::NoSuchMarker(*id)),
        },
    };
    if query.limit == 0 {
        return Ok(Page { images: Vec::new(), full: false });
    }
    let query = &ready(query);
    let plan = Plan::of(query, marker.as_ref());
    let images = match plan.order {
        Order::Wanted(key, direction) => {
            let after = marker.map(|image| Plan::suffix_of(key, &image));
            walk(read, query, &plan.streams, direction, after.as_deref())?
        }
        Order::Other => sift(read, query, &plan.streams, marker.as_ref())?,
    };
    Ok(cut(images, query.limit))
}

/// The page that fits, which holds one image at least.
fn cut(mut images: Vec<Image>, limit: usize) -> Page {
    let mut bytes = 0;
    let fitting = images.iter().take_while(|image| {
        let fits = bytes == 0 || bytes + image.text_bytes() <= PAGE_BYTES_MAX;
        bytes += image.text_bytes();
        fits
    });
    let fitting = fitting.count();
    let full = images.len() == limit || fitting < images.len();
    images.truncate(fitting);
    Page { images, full }
}

/// Take the page where it begins and stop when it is full.
fn walk(
    read: &dyn Read,
    query: &ImageQuery,
    streams: &[Vec<u8>],
    direction: Direction,
    after: Option<&[u8]>,
) -> Result<Vec<Image>, Fault> {
    let mut images: Vec<Image> = Vec::with_capacity(query.limit.min(64));
    let mut bytes = 0;
    let mut merge = Merge::new(read, streams, direction, after)?;
    while images.len() < query.limit
        && bytes <= PAGE_BYTES_MAX
        && let Some(id) = merge.next_id()?
    {
        if let Some(image) = record(read, &id)?.filter(|image| is_wanted(query, image)) {
            bytes += image.text_bytes();
            images.push(image);
        }
    }
    Ok(images)
}

/// Look at every candidate and keep the best page.
fn sift(
    read: &dyn Read,
    query: &ImageQuery,
    streams: &[Vec<u8>],
    marker: Option<&Image>,
) -> Result<Vec<Image>, Fault> {
    let mut page: Vec<Image> = Vec::with_capacity(query.limit.min(64) + 1);
    let mut bytes = 0;
    // The first image that did not fit. Nothing behind it may be in the page, or it would be missed.
    let mut end: Option<Image> = None;
    let mut merge = Merge::new(read, streams, Direction::Ascending, None)?;
    while let Some(id) = merge.next_id()? {
        let Some(image) = record(read, &id)?.filter(|image| is_wanted(query, image)) else { continue };
        let is_before = |other: &Option<Image>| {
            other.as_ref().is_none_or(|other| order(&query.sort, &image, other).is_lt())
        };
        if marker.is_some_and(|marker| order(&query.sort, marker, &image).is_ge()) || !is_before(&end) {
            continue;
        }
        let place = page.partition_point(|kept| order(&query.sort, kept, &image).is_lt());
        bytes += image.text_bytes();
        page.insert(place, image);
        // One image more than fits is kept, so that `cut` sees that there is one.
        while page.len() > query.limit
            || (page.len() > 2 && bytes - page[page.len() - 1].text_bytes() > PAGE_BYTES_MAX)
        {
            end = page.pop();
            bytes -= end.as_ref().map_or(0, Image::text_bytes);
        }
    }
    Ok(page)
}

/// An entry and its record are written together, so a missing record is damage.
fn record(read: &dyn Read, id: &ImageId) -> Result<Option<Image>, Fault> {
    match table::image(read, id)? {
        Some(image) => Ok(Some(image)),
        None => Err(Fault::Damaged { what: "list index", key: id.as_str().as_bytes().to_vec() }),
    }
}

/// Several streams in one order, each id once.
struct Merge<'a> {
    direction: Direction,
    streams: Vec<Stream<'a>>,
}

struct Stream<'a> {
    entries: Entries<'a>,
    prefix_len: usize,
    /// The key the stream stands at.
    head: Option<Vec<u8>>,
}

impl Stream<'_> {
    fn advance(&mut self) -> Result<(), Fault> {
        self.head = self.entries.next().transpose()?.map(|(key, _)| key);
        Ok(())
    }

    fn suffix(&self) -> Option<&[u8]> {
        self.head.as_ref().map(|key| &key[self.prefix_len..])
    }
}

impl<'a> Merge<'a> {
    fn new(
        read: &'a dyn Read,
        prefixes: &[Vec<u8>],
        direction: Direction,
        after: Option<&[u8]>,
    ) -> Result<Self, Fault> {
        let mut streams = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            let mut range = KeyRange::prefix(prefix);
            if let Some(after) = after {
                let place = [prefix.as_slice(), after].concat();
                match direction {
                    Direction::Ascending => range.from = [place.as_slice(), &[0]].concat(),
                    Direction::Descending => range.to = Some(place),
                }
            }
            let entries = read.scan(range, direction);
            let mut stream = Stream { entries, prefix_len: prefix.len(), head: None };
            stream.advance()?;
            streams.push(stream);
        }
        Ok(Self { direction, streams })
    }

    fn next_id(&mut self) -> Result<Option<ImageId>, Fault> {
        let suffixes = self.streams.iter().filter_map(Stream::suffix);
        let first = match self.direction {
            Direction::Ascending => suffixes.min(),
            Direction::Descending => suffixes.max(),
        };
        let Some(first) = first.map(<[u8]>::to_vec) else { return Ok(None) };
        for stream in &mut self.streams {
            if stream.suffix() == Some(first.as_slice()) {
                stream.advance()?;
            }
        }
        let start = first.len().saturating_sub(ID_LEN);
        table::id_at(&first, start).map(Some)
    }
}

/// Bytes of an image id at the end of every entry.
const ID_LEN: usize = 36;
