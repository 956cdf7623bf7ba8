//! What a pickle names: the classes and functions in it that the other process has to import.
//!
//! Source: the opcodes of `pickletools` in CPython. Invariant: it reads the pickle once from the front, believes no length in
//! it, and runs nothing.

/// What follows an opcode.
#[derive(Clone, Copy)]
enum Operand {
    Fixed(usize),
    /// A length of so many bytes, then so much.
    Counted(usize),
    Lines(usize),
    Unknown,
}

const BINGET: u8 = b'h';
const LONG_BINGET: u8 = b'j';
const GLOBAL: u8 = b'c';
const STOP: u8 = b'.';
const BINUNICODE: u8 = b'X';
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE8: u8 = 0x8d;
const STACK_GLOBAL: u8 = 0x93;
const MEMOIZE: u8 = 0x94;
const FRAME: u8 = 0x95;

fn operand(opcode: u8) -> Operand {
    match opcode {
        b'K' | BINGET | b'q' | 0x80 | 0x82 => Operand::Fixed(1),
        b'M' | 0x83 => Operand::Fixed(2),
        b'J' | LONG_BINGET | b'r' | 0x84 => Operand::Fixed(4),
        b'G' | FRAME => Operand::Fixed(8),
        b'U' | b'C' | 0x8a | SHORT_BINUNICODE => Operand::Counted(1),
        b'T' | BINUNICODE | b'B' | 0x8b => Operand::Counted(4),
        BINUNICODE8 | 0x8e | 0x96 => Operand::Counted(8),
        b'F' | b'I' | b'L' | b'P' | b'S' | b'V' | b'g' | b'p' => Operand::Lines(1),
        GLOBAL | b'i' => Operand::Lines(2),
        b'(' | STOP | b'0'..=b'2' | b'N' | b'Q' | b'R' | b'a' | b'b' | b'd' | b'}' | b'e' | b'l' | b']' | b'o' => {
            Operand::Fixed(0)
        }
        b's' | b't' | b')' | b'u' | 0x81 | 0x85..=0x89 | 0x8f..=STACK_GLOBAL | MEMOIZE | 0x97 | 0x98 => {
            Operand::Fixed(0)
        }
        _ => Operand::Unknown,
    }
}

/// What a pickle of protocol 4 or 5 names, a module and a name in it, each once; as far as it can be read. The name is empty
/// for a module itself.
pub(crate) fn named_globals(pickle: &[u8]) -> Vec<(&str, &str)> {
    let mut reader = Reader { rest: pickle, memo: Vec::new(), last: [None; 2], imports: false, found: Vec::new() };
    // Most pickles name nothing, and one without this byte certainly does not.
    if pickle.contains(&STACK_GLOBAL) || pickle.contains(&GLOBAL) {
        while reader.step().is_some() {}
    }
    reader.found
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The strings that can be used again, and `None` for all else.
    memo: Vec<Option<&'a [u8]>>,
    /// What was pushed last and before that, where it is a string.
    last: [Option<&'a [u8]>; 2],
    /// Whether the function pushed last imports the module whose name is pushed next.
    imports: bool,
    found: Vec<(&'a str, &'a str)>,
}

impl<'a> Reader<'a> {
    fn step(&mut self) -> Option<()> {
        let (&opcode, rest) = self.rest.split_first()?;
        self.rest = rest;
        let data = match operand(opcode) {
            Operand::Fixed(length) => self.take(length)?,
            Operand::Counted(width) => {
                let count = little_endian(self.take(width)?)?;
                self.take(count)?
            }
            Operand::Lines(count) => self.take_lines(count)?,
            Operand::Unknown => return None,
        };
        match opcode {
            STOP => return None,
            SHORT_BINUNICODE | BINUNICODE | BINUNICODE8 => self.push(Some(data)),
            BINGET | LONG_BINGET => {
                let place = little_endian(data)?;
                self.push(self.memo.get(place).copied().flatten());
            }
            // They push nothing.
            MEMOIZE => self.memo.push(self.last[1]),
            FRAME => {}
            STACK_GLOBAL => {
                let [module, name] = self.last;
                self.push(None);
                self.note(module, name);
                self.imports = name == Some(b"subimport");
            }
            GLOBAL => {
                self.push(None);
                let mut lines = data.split(|byte| *byte == b'\n');
                self.note(lines.next(), lines.next());
            }
            _ => self.push(None),
        }
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn take_lines(&mut self, count: usize) -> Option<&'a [u8]> {
        let ends = self.rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let (end, _) = ends.into_iter().nth(count - 1)?;
        self.take(end + 1)
    }

    fn push(&mut self, string: Option<&'a [u8]>) {
        self.last = [self.last[1], string];
        // `cloudpickle` names a module that it does not copy by this function's argument.
        if self.imports && string.is_some() {
            self.imports = false;
            self.note(string, Some(b""));
        }
    }

    fn note(&mut self, module: Option<&'a [u8]>, name: Option<&'a [u8]>) {
        let text = |bytes: Option<&'a [u8]>| bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let (Some(module), Some(name)) = (text(module), text(name)) else { return };
        if !self.found.contains(&(module, name)) {
            self.found.push((module, name));
        }
    }
}

fn little_endian(bytes: &[u8]) -> Option<usize> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    usize::try_from(u64::from_le_bytes(word)).ok()
}
