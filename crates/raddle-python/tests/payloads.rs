//! Payloads of calls and replies: what is written is read again, and whatever else is read ends in an error.

#![cfg(not(loom))]

use proptest::prelude::*;

#[path = "../src/layout.rs"]
#[expect(dead_code, reason = "the binding uses what is not used here")]
mod layout;
#[path = "../src/named_globals.rs"]
mod named_globals;

use layout::{Arguments, Call, Damaged, Function, Listed, Told, Value};

/// A value that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::None => Value::None,
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Int(int) => Value::Int(*int),
            Self::Float(float) => Value::Float(*float),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

fn any_value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        Just(Owned::None),
        any::<bool>().prop_map(Owned::Bool),
        any::<i64>().prop_map(Owned::Int),
        any::<f64>().prop_filter("is equal to itself", |float| !float.is_nan()).prop_map(Owned::Float),
        any::<String>().prop_map(Owned::Text),
        any::<Vec<u8>>().prop_map(Owned::Bytes),
    ]
}

fn any_row() -> impl Strategy<Value = Vec<Owned>> {
    prop::collection::vec(any_value(), 0..5)
}

fn push_row(out: &mut Vec<u8>, row: &[Owned]) {
    row.iter().for_each(|value| layout::push_value(out, value.value()).expect("there is memory"));
}

fn short(row: &[Owned]) -> u8 {
    row.len().try_into().expect("a row is short")
}

fn callee(number: Option<u64>, inline: &[u8]) -> Function<'_> {
    number.map_or(Function::Inline(inline), Function::Defined)
}

/// Reads a payload in all ways.
fn read_everything(payload: &[u8]) -> [Option<Damaged>; 6] {
    let values = |listed| match listed {
        Listed::Plain(values) => values.count(),
        Listed::Pickled(_) => 0,
    };
    let call = Call::parse(payload).map(|call| {
        let count = match call.arguments {
            Arguments::Plain(values) | Arguments::Ones(values) => values.count(),
            Arguments::Rows(rows) => rows.map(|row| row.count()).sum(),
            _ => 0,
        };
        assert!(count <= payload.len(), "nothing is made of nothing");
    });
    let chunk = |has_error| layout::parse_chunk(payload, has_error).map(|(listed, _)| values(listed));
    [
        call.err(),
        layout::parse_value(payload).err(),
        layout::parse_function(payload).err(),
        Told::parse(payload).err(),
        chunk(false).err(),
        chunk(true).err(),
    ]
}

/// Writes an object, and gives its attributes as they should be read.
fn push_object<'a>(out: &mut Vec<u8>, class: &str, row: &'a [(String, Owned)]) -> Vec<(&'a str, Value<'a>)> {
    layout::push_object(out, class, row.len().try_into().expect("it is small")).expect("there is memory");
    let attributes: Vec<_> = row.iter().map(|(name, value)| (name.as_str(), value.value())).collect();
    attributes.iter().for_each(|(name, value)| layout::push_attribute(out, name, *value).expect("there is memory"));
    attributes
}

proptest! {
    #[test]
    fn an_object_is_read_as_it_was_written(
        class in any::<String>(),
        row in prop::collection::vec((any::<String>(), any_value()), 0..5),
    ) {
        let mut payload = Vec::new();
        let attributes = push_object(&mut payload, &class, &row);
        let Ok(Value::Object(object)) = layout::parse_value(&payload) else { panic!("it is an object") };
        prop_assert_eq!(object.class, class);
        prop_assert_eq!(object.attributes.collect::<Vec<_>>(), attributes);
        payload.pop();
        prop_assert!(layout::parse_value(&payload).is_err());
    }

    #[test]
    fn an_object_stands_in_no_row_and_in_no_object(class in any::<String>()) {
        let mut object = Vec::new();
        push_object(&mut object, &class, &[]);
        let mut row = Vec::new();
        layout::push_listed(&mut row, 1);
        row.extend_from_slice(&object);
        prop_assert!(layout::parse_chunk(&row, false).is_err());
        let mut outer = Vec::new();
        layout::push_object(&mut outer, "m:c", 1).expect("there is memory");
        outer.extend_from_slice(&1_u64.to_le_bytes());
        outer.push(b'a');
        outer.extend_from_slice(&object);
        prop_assert!(layout::parse_value(&outer).is_err());
    }

    #[test]
    fn a_value_is_read_as_it_was_written(value in any_value()) {
        let mut payload = Vec::new();
        layout::push_value(&mut payload, value.value()).expect("there is memory");
        prop_assert_eq!(layout::parse_value(&payload), Ok(value.value()));
    }

    #[test]
    fn a_call_is_read_as_it_was_written(
        number in any::<Option<u64>>(),
        inline in any::<Vec<u8>>(),
        context in any::<Option<Vec<u8>>>(),
        row in any_row(),
    ) {
        let mut payload = Vec::new();
        if let Some(context) = &context {
            layout::push_context(&mut payload, context).expect("there is memory");
        }
        layout::push_callee(&mut payload, callee(number, &inline)).expect("there is memory");
        layout::push_plain(&mut payload, short(&row));
        push_row(&mut payload, &row);
        let call = Call::parse(&payload).expect("it is whole");
        prop_assert_eq!(call.context, context.as_deref());
        prop_assert_eq!(call.function, callee(number, &inline));
        let Arguments::Plain(values) = call.arguments else { panic!("other arguments: {:?}", call.arguments) };
        prop_assert_eq!(values.collect::<Vec<_>>(), row.iter().map(Owned::value).collect::<Vec<_>>());
    }

    #[test]
    fn a_chunk_is_read_as_it_was_written(rows in prop::collection::vec(any_row(), 0..5)) {
        let mut payload = Vec::new();
        layout::push_callee(&mut payload, Function::Defined(1)).expect("there is memory");
        layout::push_rows(&mut payload, rows.len().try_into().expect("there are few"));
        for row in &rows {
            layout::push_row(&mut payload, short(row));
            push_row(&mut payload, row);
        }
        let Ok(Call { arguments: Arguments::Rows(read), .. }) = Call::parse(&payload) else { panic!("no rows") };
        let read: Vec<Vec<_>> = read.map(Iterator::collect).collect();
        let written: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(Owned::value).collect()).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_chunk_of_single_arguments_is_read_as_it_was_written(row in any_row()) {
        let mut payload = Vec::new();
        layout::push_callee(&mut payload, Function::Defined(1)).expect("there is memory");
        layout::push_ones(&mut payload, row.len());
        push_row(&mut payload, &row);
        let Ok(Call { arguments: Arguments::Ones(read), .. }) = Call::parse(&payload) else { panic!("no values") };
        prop_assert_eq!(read.collect::<Vec<_>>(), row.iter().map(Owned::value).collect::<Vec<_>>());
        payload.pop();
        prop_assert_eq!(Call::parse(&payload).is_err(), true);
    }

    #[test]
    fn the_results_of_a_chunk_are_read_as_they_were_written(
        row in any_row(),
        told in any::<Option<(String, String, String, Option<Vec<u8>>)>>(),
    ) {
        let mut payload = Vec::new();
        layout::push_listed(&mut payload, row.len());
        push_row(&mut payload, &row);
        let told = told.as_ref().map(|(class, message, traceback, exception)| {
            Told { class, message, traceback, exception: exception.as_deref() }
        });
        if let Some(told) = &told {
            told.push(&mut payload).expect("there is memory");
        }
        let (listed, read) = layout::parse_chunk(&payload, told.is_some()).expect("it is whole");
        let Listed::Plain(values) = listed else { panic!("a pickle") };
        prop_assert_eq!(values.collect::<Vec<_>>(), row.iter().map(Owned::value).collect::<Vec<_>>());
        prop_assert_eq!(read, told);
    }

    #[test]
    fn a_payload_that_is_cut_short_is_damaged(row in any_row(), cut in 1_usize..9) {
        let mut payload = Vec::new();
        layout::push_callee(&mut payload, Function::Defined(1)).expect("there is memory");
        layout::push_plain(&mut payload, short(&row));
        push_row(&mut payload, &row);
        payload.truncate(payload.len().saturating_sub(cut));
        prop_assert!(Call::parse(&payload).is_err());
    }

    #[test]
    fn something_after_the_end_is_damage(value in any_value(), more in prop::collection::vec(any::<u8>(), 1..5)) {
        let mut payload = Vec::new();
        layout::push_value(&mut payload, value.value()).expect("there is memory");
        payload.extend(more);
        prop_assert!(layout::parse_value(&payload).is_err());
    }

    #[test]
    fn rubbish_is_read_to_an_end(payload in any::<Vec<u8>>()) {
        read_everything(&payload);
        named_globals::named_globals(&payload);
    }

    #[test]
    fn rubbish_behind_a_good_beginning_is_read_to_an_end(
        tag in prop::sample::select(vec![16_u8, 17, 18, 32, 33, 36, 48, 49]),
        rest in any::<Vec<u8>>(),
    ) {
        let mut payload = vec![17, 1, 0, 0, 0, 0, 0, 0, 0, tag];
        payload.extend(&rest);
        read_everything(&payload);
        read_everything(&payload[9..]);
    }
}

#[test]
fn every_reading_finds_damage_in_nothing() {
    assert!(read_everything(b"").iter().all(Option::is_some));
}

#[test]
fn a_count_that_cannot_be_is_damage() {
    let huge = u64::MAX.to_le_bytes();
    for tag in [5, 6, 7] {
        assert!(layout::parse_value(&[&[tag], &huge[..]].concat()).is_err());
    }
    assert!(layout::parse_chunk(&[&[48], &huge[..]].concat(), false).is_err());
    assert!(Call::parse(&[&[17], &[0; 8][..], &[36], &[255; 4][..]].concat()).is_err());
}

#[test]
fn a_pickle_where_values_are_listed_is_damage() {
    let mut payload = Vec::new();
    layout::push_callee(&mut payload, Function::Defined(1)).expect("there is memory");
    layout::push_plain(&mut payload, 1);
    layout::push_value(&mut payload, Value::Pickle(b".")).expect("there is memory");
    assert!(Call::parse(&payload).is_err());
}

#[test]
fn kinds_of_replies_that_are_not_known_are_failures() {
    let failures: Vec<u16> = (0..6).filter(|kind| layout::is_failure(*kind)).collect();
    assert_eq!(failures, [layout::RAISED, layout::UNREADABLE, layout::CHUNK_RAISED, 5]);
}

#[test]
fn names_are_found_where_they_stand_and_where_they_are_repeated() {
    // Of protocol 4: two names of one module, the second by the memo.
    let pickle = b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x01m\x94\x8c\x01f\x94\x93\x94h\0\x8c\x01g\x94\x93\x94\x86\x94.";
    assert_eq!(named_globals::named_globals(pickle), [("m", "f"), ("m", "g")]);
}

#[test]
fn a_byte_that_names_nothing_is_not_taken_for_a_name() {
    // The bytes b'\x93' and a text "c" in a tuple.
    let pickle = b"\x80\x04C\x01\x93\x94\x8c\x01c\x94\x86\x94.";
    assert_eq!(named_globals::named_globals(pickle), []);
}
