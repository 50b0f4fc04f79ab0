//! What one file has of another: a rolling match of small blocks, extended bytewise both ways. A match goes on behind a few bytes that
//! differ, as in a zip archive whose times are new.
//!
//! It reads both files through windows; of the base it holds a hash for each block.

use std::io::{self, Write};

use crate::{
    format::{write_number, zigzag},
    window::Window,
};

/// Bytes of a block, for files of more than [`SMALL_FILE`].
const BLOCK: u64 = 256;
const SMALL_BLOCK: u64 = 32;
const SMALL_FILE: u64 = 256 << 10;
/// Most blocks of a base: 512 KiB of hashes for 16 MiB, 16 MiB for 128 MiB and all that is larger, with larger blocks.
const MOST_BLOCKS: u64 = 512 << 10;
/// Bytes that are looked at before what is pending is written as a literal.
const PENDING: usize = 64 << 10;
/// Bytes before and behind the expected place that a second look has.
const NEAR: u64 = 32 << 10;
/// Second looks in vain before they become rare.
const VAIN: u32 = 4;
/// Bytes that may differ before a match goes on.
const GAP: usize = 64;
/// Bytes that must be equal behind them.
const AGAIN: usize = 8;
/// Odd, with bits everywhere.
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// Writes the ops that make `target` from `base`.
pub(crate) fn write(base: &mut Window<'_>, target: &mut Window<'_>, out: &mut impl Write) -> io::Result<()> {
    let small = base.length() <= SMALL_FILE;
    let index = Index::new(base, 0, if small { SMALL_BLOCK } else { BLOCK }, Doubles::First)?;
    let mut writer = Ops { out, expected: 0 };
    // Whatever the blocks say: most files begin alike, or differ there in a few bytes.
    let begin = again(base, target, Match { target: 0, base: 0 })?.unwrap_or(0);
    let literal = extend(base, target, &mut writer, Match { target: begin, base: begin }, 0)?;
    let literal = matches(base, target, &index, &mut writer, literal, &mut Closer { rests: small, vain: 0 })?;
    if literal < target.length() {
        writer.literal(target, literal, target.length())?;
        write_number(writer.out, 0)?;
    }
    Ok(())
}

/// Writes ops from `literal` on, where nothing is pending before; answers from where on the rest is pending.
fn matches<W: Write>(
    base: &mut impl Bytes,
    target: &mut impl Bytes,
    index: &Index,
    writer: &mut Ops<'_, W>,
    mut literal: u64,
    closer: &mut Closer,
) -> io::Result<u64> {
    let mut at = literal;
    while at < target.length() {
        at = match index.next(base, target, at)? {
            Found::Match(found) => {
                let found = back(base, target, found, literal)?;
                literal = closer.look(base, target, writer, literal, found.target)?;
                literal = extend(base, target, writer, found, literal)?;
                literal
            }
            Found::Nothing(until) => {
                let is_last = until == target.length();
                if is_last || until - literal >= PENDING as u64 {
                    literal = closer.look(base, target, writer, literal, until)?;
                    if !is_last && literal < until {
                        writer.literal(target, literal, until)?;
                        write_number(writer.out, 0)?;
                        literal = until;
                    }
                }
                until
            }
        };
    }
    Ok(literal)
}

/// A second look at what no block of the base is in, with small blocks of the base's bytes near the place where it would go on: entries of a
/// table that moved and have new numbers in them. Where that was in vain several times it is done now and then only.
struct Closer {
    rests: bool,
    vain: u32,
}

impl Closer {
    /// Writes ops for a part of what is pending; answers from where on the rest is.
    fn look<W: Write>(
        &mut self,
        base: &mut impl Bytes,
        target: &mut impl Bytes,
        writer: &mut Ops<'_, W>,
        from: u64,
        to: u64,
    ) -> io::Result<u64> {
        let rests = self.rests || (self.vain > VAIN && !self.vain.is_multiple_of(VAIN));
        if rests || to - from < 3 * SMALL_BLOCK {
            self.vain = self.vain.saturating_add(u32::from(self.vain > VAIN));
            return Ok(from);
        }
        let begin = writer.expected.saturating_sub(NEAR);
        let mut near = Part::of(base, begin, (to - from) + 2 * NEAR)?;
        let mut gap = Part::of(target, from, to - from)?;
        let index = Index::new(&mut near, begin, SMALL_BLOCK, Doubles::None)?;
        let rest = matches(&mut near, &mut gap, &index, writer, from, &mut Self { rests: true, vain: 0 })?;
        self.vain = if rest == from { self.vain.saturating_add(1) } else { 0 };
        Ok(rest)
    }
}

/// Bytes that are looked at here and there.
trait Bytes {
    /// Where they end.
    fn length(&self) -> u64;

    /// Bytes from a place on: as many as `want`, or up to the end; often more.
    fn from(&mut self, at: u64, want: usize) -> io::Result<&[u8]>;

    /// Bytes that end before a place: as many as `want`, or from the begin.
    fn before(&mut self, at: u64, want: usize) -> io::Result<&[u8]>;
}

impl Bytes for Window<'_> {
    fn length(&self) -> u64 {
        Window::length(self)
    }

    #[inline]
    fn from(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        Window::from(self, at, want)
    }

    fn before(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        Window::before(self, at, want)
    }
}

/// A part of a file, at the places that its bytes have there.
struct Part {
    begin: u64,
    bytes: Vec<u8>,
}

impl Part {
    fn of(whole: &mut impl Bytes, begin: u64, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = whole.from(begin, length)?;
        Ok(Self { begin, bytes: bytes.get(..length.min(bytes.len())).unwrap_or_default().to_vec() })
    }

    fn place(&self, at: u64) -> usize {
        usize::try_from(at.saturating_sub(self.begin)).unwrap_or(usize::MAX)
    }
}

impl Bytes for Part {
    fn length(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }

    #[inline]
    fn from(&mut self, at: u64, _: usize) -> io::Result<&[u8]> {
        Ok(self.bytes.get(self.place(at)..).unwrap_or_default())
    }

    fn before(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let end = self.place(at);
        Ok(self.bytes.get(end.saturating_sub(want)..end).unwrap_or_default())
    }
}

/// A place where both files are equal.
#[derive(Clone, Copy, Debug)]
struct Match {
    target: u64,
    base: u64,
}

enum Found {
    Match(Match),
    /// None begins before this place.
    Nothing(u64),
}

/// Moves the begin of a match back as far as both are equal, not beyond what is pending.
fn back(base: &mut impl Bytes, target: &mut impl Bytes, found: Match, literal: u64) -> io::Result<Match> {
    let want = usize::try_from(found.target - literal).unwrap_or(PENDING).min(found.base.try_into().unwrap_or(PENDING));
    let (ours, theirs) = (target.before(found.target, want)?, base.before(found.base, want)?);
    let equal = ours.iter().rev().zip(theirs.iter().rev()).take_while(|(ours, theirs)| ours == theirs).count() as u64;
    Ok(Match { target: found.target - equal, base: found.base - equal })
}

/// Writes the literal that is pending and the copy, and goes on as long as both files do; answers where nothing is pending any more.
fn extend<W: Write>(
    base: &mut impl Bytes,
    target: &mut impl Bytes,
    writer: &mut Ops<'_, W>,
    mut at: Match,
    mut literal: u64,
) -> io::Result<u64> {
    loop {
        let length = common(base, target, at)?;
        if length == 0 {
            return Ok(literal);
        }
        writer.literal(target, literal, at.target)?;
        writer.copy(at.base, length)?;
        literal = at.target + length;
        at = Match { target: literal, base: at.base + length };
        let Some(differ) = again(base, target, at)? else { return Ok(literal) };
        at = Match { target: at.target + differ, base: at.base + differ };
    }
}

/// Bytes from a place on that are equal.
fn common(base: &mut impl Bytes, target: &mut impl Bytes, at: Match) -> io::Result<u64> {
    const STRIDE: usize = 64;
    let mut length = 0;
    loop {
        let (ours, theirs) = (target.from(at.target + length, 1)?, base.from(at.base + length, 1)?);
        let least = ours.len().min(theirs.len());
        let strides = ours.chunks_exact(STRIDE).zip(theirs.chunks_exact(STRIDE));
        let whole = strides.take_while(|(ours, theirs)| ours == theirs).count() * STRIDE;
        let rest = ours.iter().zip(theirs).skip(whole).take_while(|(ours, theirs)| ours == theirs).count();
        length += (whole + rest) as u64;
        if whole + rest < least || least == 0 {
            return Ok(length);
        }
    }
}

/// How many bytes differ before both files are equal again at the same distance.
fn again(base: &mut impl Bytes, target: &mut impl Bytes, at: Match) -> io::Result<Option<u64>> {
    let (ours, theirs) = (target.from(at.target, GAP + AGAIN)?, base.from(at.base, GAP + AGAIN)?);
    let pairs = ours.windows(AGAIN).zip(theirs.windows(AGAIN)).take(GAP + 1);
    Ok(pairs.enumerate().find(|(_, (ours, theirs))| ours == theirs).map(|(differ, _)| differ as u64))
}

/// Writes ops.
struct Ops<'a, W> {
    out: &'a mut W,
    /// Where the last copy would go on.
    expected: u64,
}

impl<W: Write> Ops<'_, W> {
    /// A literal; a copy or a 0 has to follow.
    fn literal(&mut self, target: &mut impl Bytes, from: u64, to: u64) -> io::Result<()> {
        write_number(self.out, to - from)?;
        let mut at = from;
        while at < to {
            let bytes = target.from(at, 1)?;
            let most = usize::try_from(to - at).unwrap_or(usize::MAX).min(bytes.len());
            self.out.write_all(bytes.get(..most).unwrap_or_default())?;
            at += most as u64;
        }
        // A literal mostly stands for as many bytes of the base.
        self.expected = self.expected.saturating_add(to - from);
        Ok(())
    }

    fn copy(&mut self, offset: u64, length: u64) -> io::Result<()> {
        write_number(self.out, length)?;
        write_number(self.out, zigzag(offset.wrapping_sub(self.expected).cast_signed()))?;
        self.expected = offset + length;
        Ok(())
    }
}

/// Where each block of the base lies, by its hash.
struct Index {
    begin: u64,
    block: usize,
    /// [`PRIME`] to the power of the length of a block less one.
    power: u64,
    shift: u32,
    slots: Vec<Slot>,
    /// A bit for each hash that is there: small enough for the processor's cache, where most bytes of a new file end.
    there: Vec<u64>,
    there_shift: u32,
}

/// Which of several blocks with one hash is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubles {
    First,
    /// What is there more than once says nothing about a place.
    None,
}

/// A slot whose block is there more than once.
const DOUBLE: u32 = u32::MAX;

#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    /// Number of the block, from 1; 0: empty.
    block: u32,
}

impl Index {
    /// `begin`: where the base begins; `block`: bytes of a block, more where it would have too many.
    fn new(base: &mut impl Bytes, begin: u64, mut block: u64, doubles: Doubles) -> io::Result<Self> {
        let length = base.length().saturating_sub(begin);
        while length / block > MOST_BLOCKS {
            block *= 2;
        }
        let blocks = length / block;
        let bits = (blocks * 2).next_power_of_two().trailing_zeros().max(6);
        let block = usize::try_from(block).unwrap_or(usize::MAX);
        let mut index = Self {
            begin,
            block,
            power: (1..block).fold(1, |power: u64, _| power.wrapping_mul(PRIME)),
            shift: 64 - bits,
            slots: vec![Slot::default(); 1 << bits],
            there: vec![0; 1 << (bits + 3 - 6)],
            there_shift: 64 - (bits + 3),
        };
        for number in 0..blocks {
            let bytes = base.from(begin + number * block as u64, block)?;
            let hash = hash(bytes.get(..block).unwrap_or_default());
            index.insert(hash, u32::try_from(number + 1).unwrap_or(0), doubles);
        }
        Ok(index)
    }

    fn insert(&mut self, hash: u64, block: u32, doubles: Doubles) {
        let mixed = mix(hash);
        let bit = mixed >> self.there_shift;
        if let Some(word) = self.there.get_mut((bit >> 6) as usize) {
            *word |= 1 << (bit & 63);
        }
        let tag = mixed as u32;
        let mut place = (mixed >> self.shift) as usize;
        // Half of the slots stay empty.
        while let Some(slot) = self.slots.get_mut(place) {
            if slot.block == 0 {
                *slot = Slot { tag, block };
                return;
            }
            if slot.tag == tag {
                if doubles == Doubles::None {
                    slot.block = DOUBLE;
                }
                return;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<u64> {
        let mixed = mix(hash);
        let bit = mixed >> self.there_shift;
        if self.there.get((bit >> 6) as usize)? & (1 << (bit & 63)) == 0 {
            return None;
        }
        let tag = mixed as u32;
        let mut place = (mixed >> self.shift) as usize;
        loop {
            let slot = self.slots.get(place)?;
            if slot.block == 0 {
                return None;
            }
            if slot.tag == tag {
                if slot.block == DOUBLE {
                    return None;
                }
                return Some(self.begin + u64::from(slot.block - 1) * self.block as u64);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    /// The first match from a place on, within the next bytes.
    fn next(&self, base: &mut impl Bytes, target: &mut impl Bytes, at: u64) -> io::Result<Found> {
        let mut begin = 0;
        loop {
            let length = target.length();
            let bytes = target.from(at, PENDING)?;
            let bytes = bytes.get(..PENDING.min(bytes.len())).unwrap_or_default();
            let Some((skip, offset)) = self.scan(bytes, begin) else {
                let end = at + bytes.len() as u64;
                // A block may begin in these bytes and end behind them.
                let whole = end == length || bytes.len() < self.block;
                return Ok(Found::Nothing(if whole { end } else { end - (self.block as u64 - 1) }));
            };
            let ours = bytes.get(skip..skip + self.block).unwrap_or_default();
            if base.from(offset, self.block)?.starts_with(ours) {
                return Ok(Found::Match(Match { target: at + skip as u64, base: offset }));
            }
            begin = skip + 1;
        }
    }

    /// Rolls over the bytes from `begin` on to the first block whose hash is there.
    fn scan(&self, bytes: &[u8], begin: usize) -> Option<(usize, u64)> {
        let rest = bytes.get(begin..)?;
        let mut hash = hash(rest.get(..self.block)?);
        for (n, (out, into)) in rest.iter().zip(rest.get(self.block..)?).enumerate() {
            if let Some(offset) = self.find(hash) {
                return Some((begin + n, offset));
            }
            let without = hash.wrapping_sub(u64::from(*out).wrapping_mul(self.power));
            hash = without.wrapping_mul(PRIME).wrapping_add(u64::from(*into));
        }
        self.find(hash).map(|offset| (begin + rest.len() - self.block, offset))
    }
}

/// Polynomial of the bytes, the first one highest.
fn hash(bytes: &[u8]) -> u64 {
    const SQUARE: u64 = PRIME.wrapping_mul(PRIME);
    const CUBE: u64 = SQUARE.wrapping_mul(PRIME);
    const FOURTH: u64 = CUBE.wrapping_mul(PRIME);
    let four = bytes.chunks_exact(4);
    let rest = four.remainder();
    let hash = four.fold(0u64, |hash, four| {
        let [a, b, c, d] = four else { return hash };
        let sum = u64::from(*a).wrapping_mul(CUBE).wrapping_add(u64::from(*b).wrapping_mul(SQUARE));
        let sum = sum.wrapping_add(u64::from(*c).wrapping_mul(PRIME)).wrapping_add(u64::from(*d));
        hash.wrapping_mul(FOURTH).wrapping_add(sum)
    });
    rest.iter().fold(hash, |hash, byte| hash.wrapping_mul(PRIME).wrapping_add(u64::from(*byte)))
}

/// High bits that depend on all bits.
#[inline]
fn mix(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}
