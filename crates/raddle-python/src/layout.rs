//! The bytes of calls and replies (submit -> queue -> TRANSPORT -> worker -> result), as far as they need no interpreter.
//!
//! ```text
//! function  = name:text pickle:rest                              (the payload of a definition)
//! call      = [CONTEXT blob] (DEFINED u64 | INLINE function:blob) arguments
//! arguments = ONE value | PLAIN row | PICKLED rest | KEYWORDS rest
//!           | ONES count:u64 value* | ROWS count:u32 row* | PICKLED_ROWS rest               (a chunk)
//! row       = count:u8 value*                                    (values that are neither pickles nor objects)
//! value     = NONE | FALSE | TRUE | INT i64 | FLOAT f64 | TEXT blob | BYTES blob | PICKLE blob | OBJECT object
//! object    = class:text count:u8 (attribute:text value)*     (class: its module, a colon, its name)
//!                (values that are neither pickles nor objects)
//! values    = LISTED count:u64 value* | PICKLED_LIST blob        (results of a chunk; values as in rows)
//! error     = class:text message:text traceback:text (NOTHING | PICKLE blob)
//! blob      = length:u64 byte*                                   text is a blob of UTF-8
//! ```
//!
//! Numbers are little-endian. Invariant: whatever the bytes are, reading them ends with a value or with [`Damaged`], and
//! nothing is allocated for a length that is not there.

/// The reply is a value.
pub(crate) const RETURNED: u16 = 0;
/// The reply is an error: the function raised it, or its result could not be pickled.
pub(crate) const RAISED: u16 = 1;
/// The reply is an error: the call could not be rebuilt in the worker.
pub(crate) const UNREADABLE: u16 = 2;
/// The reply is the values of a chunk.
pub(crate) const CHUNK: u16 = 3;
/// The reply is the values of a chunk before the first that failed, and the error of that.
pub(crate) const CHUNK_RAISED: u16 = 4;

/// The first line of the error of a reply, after the name of its class.
pub(crate) fn error_line(kind: u16, payload: &[u8]) -> Option<String> {
    let told = match kind {
        RAISED | UNREADABLE => Told::parse(payload).ok()?,
        CHUNK_RAISED => parse_chunk(payload, true).ok()?.1?,
        _ => return None,
    };
    let class = told.class.rsplit([':', '.']).next().unwrap_or_default();
    let line = told.message.lines().next().unwrap_or_default();
    Some(if line.is_empty() { class.into() } else { format!("{class}: {line}") })
}

/// Whether a reply of this kind says that its task failed.
pub(crate) fn is_failure(kind: u16) -> bool {
    !matches!(kind, RETURNED | CHUNK)
}

const NONE: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const TEXT: u8 = 5;
const BYTES: u8 = 6;
const PICKLE: u8 = 7;
const OBJECT: u8 = 8;

const CONTEXT: u8 = 16;
const DEFINED: u8 = 17;
const INLINE: u8 = 18;

const ONE: u8 = 32;
const PLAIN: u8 = 33;
const PICKLED: u8 = 34;
const KEYWORDS: u8 = 35;
const ROWS: u8 = 36;
const PICKLED_ROWS: u8 = 37;
const ONES: u8 = 38;

const LISTED: u8 = 48;
const PICKLED_LIST: u8 = 49;
const NOTHING: u8 = 50;

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// What is wrong with them.
    pub(crate) what: &'static str,
}

fn damaged<T>(what: &'static str) -> Result<T, Damaged> {
    Err(Damaged { what })
}

/// There is no memory for the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    /// How many there would be.
    pub(crate) wanted: usize,
}

/// A value in a payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Pickle(&'a [u8]),
    Object(Object<'a>),
}

/// An object of a class that both sides can import.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    /// Its class: a module, a colon, and a name there.
    pub(crate) class: &'a str,
    pub(crate) attributes: Attributes<'a>,
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.class == other.class && self.attributes.eq(other.attributes)
    }
}

/// How a function is named in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function<'a> {
    /// By the number under which it was defined.
    Defined(u64),
    /// By itself.
    Inline(&'a [u8]),
}

/// What a call passes to its function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arguments<'a> {
    /// One positional argument.
    One(Value<'a>),
    /// Positional arguments, none of them a pickle.
    Plain(Values<'a>),
    /// The pickle of a tuple of positional arguments.
    Pickled(&'a [u8]),
    /// The pickle of a pair: positional arguments, keyword arguments.
    WithKeywords(&'a [u8]),
    /// The arguments of many calls with one argument each.
    Ones(Values<'a>),
    /// The positional arguments of many calls.
    Rows(Rows<'a>),
    /// The pickle of a list of tuples, each the positional arguments of one call.
    PickledRows(&'a [u8]),
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The pickle of the values of context variables.
    pub(crate) context: Option<&'a [u8]>,
    pub(crate) function: Function<'a>,
    pub(crate) arguments: Arguments<'a>,
}

impl<'a> Call<'a> {
    /// Reads the payload of a task.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Damaged> {
        let mut reader = Reader(payload);
        let mut tag = reader.byte()?;
        let mut context = None;
        if tag == CONTEXT {
            context = Some(reader.blob()?);
            tag = reader.byte()?;
        }
        let function = match tag {
            DEFINED => Function::Defined(reader.u64()?),
            INLINE => Function::Inline(reader.blob()?),
            _ => return damaged("a call does not begin with a function"),
        };
        Ok(Self { context, function, arguments: reader.arguments()? })
    }
}

/// A function's name, for messages, and its pickle.
pub(crate) fn parse_function(payload: &[u8]) -> Result<(&str, &[u8]), Damaged> {
    let mut reader = Reader(payload);
    let name = reader.text()?;
    Ok((name, reader.0))
}

/// A value that is the whole of a payload.
pub(crate) fn parse_value(payload: &[u8]) -> Result<Value<'_>, Damaged> {
    let mut reader = Reader(payload);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

/// The results of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listed<'a> {
    /// None of them a pickle.
    Plain(Values<'a>),
    /// The pickle of a list.
    Pickled(&'a [u8]),
}

/// An error as it is told, and the exception itself if it could be pickled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told<'a> {
    pub(crate) class: &'a str,
    pub(crate) message: &'a str,
    pub(crate) traceback: &'a str,
    pub(crate) exception: Option<&'a [u8]>,
}

impl<'a> Told<'a> {
    /// Reads the payload of a reply that is an error.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Damaged> {
        Reader(payload).error()
    }

    /// Appends it.
    pub(crate) fn push(&self, out: &mut Vec<u8>) -> Result<(), OutOfMemory> {
        push_blob(out, self.class.as_bytes())?;
        push_blob(out, self.message.as_bytes())?;
        push_blob(out, self.traceback.as_bytes())?;
        match self.exception {
            None => out.push(NOTHING),
            Some(pickle) => push_value(out, Value::Pickle(pickle))?,
        }
        Ok(())
    }
}

/// The results of a chunk, and the error after them if its reply has one.
pub(crate) fn parse_chunk(payload: &[u8], has_error: bool) -> Result<(Listed<'_>, Option<Told<'_>>), Damaged> {
    let mut reader = Reader(payload);
    let listed = match reader.byte()? {
        LISTED => {
            let count = reader.u64()?;
            Listed::Plain(reader.values(count)?)
        }
        PICKLED_LIST => Listed::Pickled(reader.blob()?),
        _ => return damaged("the results of a chunk do not begin as such"),
    };
    if has_error {
        return Ok((listed, Some(reader.error()?)));
    }
    reader.end()?;
    Ok((listed, None))
}

/// Values one after the other, which have been read once already: none is damaged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Value<'a>> {
        self.count = self.count.checked_sub(1)?;
        self.reader.value().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Values<'_> {}

/// Attributes one after the other, each with its value, which have been read once already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    reader: Reader<'a>,
    count: u8,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<(&'a str, Value<'a>)> {
        self.count = self.count.checked_sub(1)?;
        self.reader.attribute().ok()
    }
}

/// Rows one after the other, which have been read once already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Values<'a>;

    fn next(&mut self) -> Option<Values<'a>> {
        self.count = self.count.checked_sub(1)?;
        self.reader.row().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Rows<'_> {}

/// What has not been read yet.
#[derive(Clone, Copy, Debug)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let Some((taken, rest)) = self.0.split_at_checked(length) else { return damaged("it ends too early") };
        self.0 = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else { return damaged("it ends too early") };
        self.0 = rest;
        Ok(*taken)
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Damaged> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    fn blob(&mut self) -> Result<&'a [u8], Damaged> {
        match usize::try_from(self.u64()?) {
            Ok(length) => self.take(length),
            Err(_) => damaged("it ends too early"),
        }
    }

    fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.blob()?).or_else(|_| damaged("a text in it is not UTF-8"))
    }

    fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { damaged("something follows its end") }
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    // Where it is not inlined, a value is written to memory and read again at once, which stalls: 10 ns a value.
    #[inline(always)]
    fn value(&mut self) -> Result<Value<'a>, Damaged> {
        Ok(match self.byte()? {
            NONE => Value::None,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INT => Value::Int(i64::from_le_bytes(self.array()?)),
            FLOAT => Value::Float(f64::from_bits(self.u64()?)),
            TEXT => Value::Text(self.text()?),
            BYTES => Value::Bytes(self.blob()?),
            PICKLE => Value::Pickle(self.blob()?),
            OBJECT => Value::Object(self.object()?),
            _ => return damaged("a value in it is of an unknown kind"),
        })
    }

    // Not inlined into what reads values, for it reads values itself.
    #[inline(never)]
    fn object(&mut self) -> Result<Object<'a>, Damaged> {
        let (class, count) = (self.text()?, self.byte()?);
        let attributes = Attributes { reader: *self, count };
        for _ in 0..count {
            self.attribute()?;
        }
        Ok(Object { class, attributes })
    }

    fn attribute(&mut self) -> Result<(&'a str, Value<'a>), Damaged> {
        Ok((self.text()?, self.plain_value()?))
    }

    #[inline(always)]
    fn plain_value(&mut self) -> Result<Value<'a>, Damaged> {
        match self.0.first() {
            Some(&(PICKLE | OBJECT)) => damaged("a value in it is a pickle or an object where none may be"),
            _ => self.value(),
        }
    }

    /// Reads over this many values, none of them a pickle or an object.
    fn values(&mut self, count: u64) -> Result<Values<'a>, Damaged> {
        // Each takes a byte at least: a count that is rubbish ends here, before anybody makes room for it.
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= self.0.len()) else {
            return damaged("it ends too early");
        };
        let values = Values { reader: *self, count };
        for _ in 0..count {
            self.plain_value()?;
        }
        Ok(values)
    }

    fn row(&mut self) -> Result<Values<'a>, Damaged> {
        let count = self.byte()?;
        self.values(count.into())
    }

    fn arguments(&mut self) -> Result<Arguments<'a>, Damaged> {
        let arguments = match self.byte()? {
            ONE => Arguments::One(self.value()?),
            PLAIN => Arguments::Plain(self.row()?),
            PICKLED => Arguments::Pickled(self.rest()),
            KEYWORDS => Arguments::WithKeywords(self.rest()),
            ONES => {
                let count = self.u64()?;
                Arguments::Ones(self.values(count)?)
            }
            ROWS => Arguments::Rows(self.rows()?),
            PICKLED_ROWS => Arguments::PickledRows(self.rest()),
            _ => return damaged("its arguments are of an unknown kind"),
        };
        self.end()?;
        Ok(arguments)
    }

    fn rows(&mut self) -> Result<Rows<'a>, Damaged> {
        let count = usize::try_from(u32::from_le_bytes(self.array()?)).unwrap_or(usize::MAX);
        if count > self.0.len() {
            return damaged("it ends too early");
        }
        let rows = Rows { reader: *self, count };
        for _ in 0..count {
            self.row()?;
        }
        Ok(rows)
    }

    fn error(&mut self) -> Result<Told<'a>, Damaged> {
        let (class, message, traceback) = (self.text()?, self.text()?, self.text()?);
        let exception = match self.byte()? {
            NOTHING => None,
            PICKLE => Some(self.blob()?),
            _ => return damaged("an error does not end as such"),
        };
        self.end()?;
        Ok(Told { class, message, traceback, exception })
    }
}

/// Has room for so many more bytes.
fn reserve(out: &mut Vec<u8>, more: usize) -> Result<(), OutOfMemory> {
    out.try_reserve(more).map_err(|_| OutOfMemory { wanted: out.len().saturating_add(more) })
}

fn push_blob(out: &mut Vec<u8>, blob: &[u8]) -> Result<(), OutOfMemory> {
    reserve(out, blob.len().saturating_add(8))?;
    out.extend_from_slice(&(blob.len() as u64).to_le_bytes());
    out.extend_from_slice(blob);
    Ok(())
}

fn push_rest(out: &mut Vec<u8>, tag: u8, rest: &[u8]) -> Result<(), OutOfMemory> {
    reserve(out, rest.len().saturating_add(1))?;
    out.push(tag);
    out.extend_from_slice(rest);
    Ok(())
}

fn push_tagged_blob(out: &mut Vec<u8>, tag: u8, blob: &[u8]) -> Result<(), OutOfMemory> {
    out.push(tag);
    push_blob(out, blob)
}

fn push_word(out: &mut Vec<u8>, tag: u8, word: u64) {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&word.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a value.
#[inline]
pub(crate) fn push_value(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), OutOfMemory> {
    match value {
        Value::None => out.push(NONE),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Int(int) => push_word(out, INT, int.cast_unsigned()),
        Value::Float(float) => push_word(out, FLOAT, float.to_bits()),
        Value::Text(text) => push_tagged_blob(out, TEXT, text.as_bytes())?,
        Value::Bytes(bytes) => push_tagged_blob(out, BYTES, bytes)?,
        Value::Pickle(pickle) => push_tagged_blob(out, PICKLE, pickle)?,
        Value::Object(Object { class, attributes }) => {
            push_object(out, class, attributes.count)?;
            for (attribute, value) in attributes {
                push_attribute(out, attribute, value)?;
            }
        }
    }
    Ok(())
}

/// Begins an object: so many attributes must follow.
pub(crate) fn push_object(out: &mut Vec<u8>, class: &str, count: u8) -> Result<(), OutOfMemory> {
    push_tagged_blob(out, OBJECT, class.as_bytes())?;
    out.push(count);
    Ok(())
}

/// Appends an attribute of an object.
pub(crate) fn push_attribute(out: &mut Vec<u8>, attribute: &str, value: Value<'_>) -> Result<(), OutOfMemory> {
    push_blob(out, attribute.as_bytes())?;
    push_value(out, value)
}

/// Appends a function.
pub(crate) fn push_function(out: &mut Vec<u8>, name: &str, pickle: &[u8]) -> Result<(), OutOfMemory> {
    push_blob(out, name.as_bytes())?;
    reserve(out, pickle.len())?;
    out.extend_from_slice(pickle);
    Ok(())
}

/// Begins a call with the values of context variables.
pub(crate) fn push_context(out: &mut Vec<u8>, pickle: &[u8]) -> Result<(), OutOfMemory> {
    push_tagged_blob(out, CONTEXT, pickle)
}

/// Begins a call, or goes on after the context: its arguments must follow.
#[inline]
pub(crate) fn push_callee(out: &mut Vec<u8>, function: Function<'_>) -> Result<(), OutOfMemory> {
    match function {
        Function::Defined(number) => push_word(out, DEFINED, number),
        Function::Inline(bytes) => push_tagged_blob(out, INLINE, bytes)?,
    }
    Ok(())
}

/// Ends a call with one positional argument: its value must follow.
#[inline]
pub(crate) fn push_one(out: &mut Vec<u8>) {
    out.push(ONE);
}

/// Ends a call with so many positional arguments: their values must follow.
pub(crate) fn push_plain(out: &mut Vec<u8>, count: u8) {
    out.extend_from_slice(&[PLAIN, count]);
}

/// Ends a call with the pickle of the tuple of its positional arguments.
pub(crate) fn push_pickled(out: &mut Vec<u8>, pickle: &[u8]) -> Result<(), OutOfMemory> {
    push_rest(out, PICKLED, pickle)
}

/// Ends a call with the pickle of its positional and keyword arguments.
pub(crate) fn push_with_keywords(out: &mut Vec<u8>, pickle: &[u8]) -> Result<(), OutOfMemory> {
    push_rest(out, KEYWORDS, pickle)
}

/// Ends a chunk of so many calls with one argument each: their values must follow.
pub(crate) fn push_ones(out: &mut Vec<u8>, count: usize) {
    push_word(out, ONES, count as u64);
}

/// Ends a chunk of so many calls: their rows must follow.
pub(crate) fn push_rows(out: &mut Vec<u8>, count: u32) {
    out.push(ROWS);
    out.extend_from_slice(&count.to_le_bytes());
}

/// Begins a row of a chunk: so many values must follow.
pub(crate) fn push_row(out: &mut Vec<u8>, count: u8) {
    out.push(count);
}

/// Ends a chunk with the pickle of a list of tuples.
pub(crate) fn push_pickled_rows(out: &mut Vec<u8>, pickle: &[u8]) -> Result<(), OutOfMemory> {
    push_rest(out, PICKLED_ROWS, pickle)
}

/// Begins the results of a chunk: so many values must follow.
pub(crate) fn push_listed(out: &mut Vec<u8>, count: usize) {
    push_word(out, LISTED, count as u64);
}

/// The results of a chunk as the pickle of a list.
pub(crate) fn push_pickled_list(out: &mut Vec<u8>, pickle: &[u8]) -> Result<(), OutOfMemory> {
    push_tagged_blob(out, PICKLED_LIST, pickle)
}
