//! Which column of a table becomes which member of an event, and a row as that event's JSON (pure).

use std::collections::HashSet;
use std::str::FromStr;

use common::event::names;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `COLUMN=MEMBER`, as the command line takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub column: String,
    /// A name that events are read by, `properties.NAME`, `context.NAME`, or `-` for nothing.
    pub member: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (column, member) = text.rsplit_once('=').ok_or("expected COLUMN=MEMBER")?;
        Ok(Self { column: column.to_owned(), member: member.to_owned() })
    }
}

/// Why no event can come out of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the table is empty; its first row must name the columns")]
    Empty,
    #[error("the first row, which must name the columns, is longer than 256 KiB")]
    TooLong,
    #[error("the header is not UTF-8; convert the file first, for example with `iconv -t UTF-8`")]
    NotUtf8,
    #[error("two columns are called {0:?}; rename one")]
    Twice(String),
    #[error("two columns are to become `{0}`; decide for one")]
    SameMember(String),
    #[error("no column is called {0:?}; the columns are {1}")]
    NoSuchColumn(String, String),
    #[error(
        "{0:?} is no member of an event{1}; `properties.{0}` keeps the column under that name, `-` \
         leaves it out"
    )]
    NoSuchMember(String, String),
    #[error(
        "no column becomes `{0}`, which every event needs; say which one does: COLUMN={0} (the columns are {1})"
    )]
    Missing(&'static str, String),
}

/// The names of the columns fit into this, and what is blank before them.
pub const HEADER_BYTES_MAX: usize = 256 << 10;

/// Why a row is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error(
        "the row has {found} cells, the header {expected}; look for a missing quote or delimiter"
    )]
    CellCount { found: usize, expected: usize },
    #[error("the row is not UTF-8; convert the file first, for example with `iconv -t UTF-8`")]
    NotUtf8,
}

impl RowError {
    pub fn code(self) -> &'static str {
        match self {
            Self::CellCount { .. } => "cell_count",
            Self::NotUtf8 => "invalid_utf8",
        }
    }
}

/// A column, and where its cells go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// Pointer-like, for people: `userId`, `objectId (product)`, `properties.price`, or `-`.
    pub becomes: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Top(String),
    Inside(Group, String),
    /// The cell is the whole object.
    Whole(Group),
    Nowhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Properties,
    Context,
}

impl Group {
    const ALL: [Self; 2] = [Self::Properties, Self::Context];

    fn name(self) -> &'static str {
        match self {
            Self::Properties => "properties",
            Self::Context => "context",
        }
    }
}

/// The columns of one table, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

impl Columns {
    /// Guesses by the names of the header; what is overridden is not guessed. `is_user_known`: the
    /// rows need not say who did it.
    pub fn of<'a>(
        header: impl Iterator<Item = &'a [u8]>,
        overrides: &[Override],
        is_user_known: bool,
    ) -> Result<Self, HeaderError> {
        let header: Vec<_> = header
            .map(std::str::from_utf8)
            .collect::<Result<_, _>>()
            .map_err(|_| HeaderError::NotUtf8)?;
        if header.iter().all(|name| name.is_empty()) {
            return Err(HeaderError::Empty);
        }
        let all = header.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let mut seen = HashSet::new();
        if let Some(twice) = header.iter().find(|name| !name.is_empty() && !seen.insert(**name)) {
            return Err(HeaderError::Twice((*twice).to_owned()));
        }
        if let Some(wrong) = overrides.iter().find(|it| !seen.contains(&*it.column)) {
            return Err(HeaderError::NoSuchColumn(wrong.column.clone(), all));
        }
        let places = places(&header, overrides)?;
        let columns = describe(&header, places);
        let needed = if is_user_known { &["type"][..] } else { &["type", "userId"] };
        for needed in needed {
            if !columns.iter().any(|column| column.becomes == *needed) {
                return Err(HeaderError::Missing(needed, all));
            }
        }
        Ok(Self(columns))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Column> {
        self.0.iter()
    }

    /// The form that is recognised as a whole, by the type of its objects; its members all stay in the properties.
    pub fn flat_form(&self) -> Option<&'static str> {
        names::flat_form(&tops(self.0.iter().map(|column| &column.place)))
    }

    /// The column that a place in the JSON comes from.
    pub fn column_at(&self, pointer: &str) -> Option<&str> {
        let mut tokens = pointer.split('/').skip(1);
        let (first, second) = (tokens.next()?, tokens.next());
        let is_it = |column: &&Column| match &column.place {
            Place::Top(member) => member == first,
            Place::Inside(group, member) => group.name() == first && second == Some(member),
            Place::Whole(group) => group.name() == first,
            Place::Nowhere => false,
        };
        self.0.iter().find(is_it).map(|column| &*column.name)
    }

    /// Appends the JSON of a row. An empty cell is absent. A cell is a number or boolean where JSON would write it
    /// just so (see `is_bare`); every other one is a string.
    pub fn write_json<'a>(
        &self,
        cells: impl ExactSizeIterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        if cells.len() != self.0.len() {
            return Err(RowError::CellCount { found: cells.len(), expected: self.0.len() });
        }
        let mut groups = [const { Some(Vec::new()) }; Group::ALL.len()];
        out.push(b'{');
        for (column, cell) in self.0.iter().zip(cells) {
            let cell = std::str::from_utf8(cell).map_err(|_| RowError::NotUtf8)?;
            match &column.place {
                _ if cell.is_empty() => {}
                Place::Nowhere => {}
                Place::Top(member) => write_member(member, cell, out),
                Place::Inside(group, member) => {
                    if let Some(members) = &mut groups[*group as usize] {
                        write_member(member, cell, members);
                    }
                }
                Place::Whole(group) => match (object_inside(cell), &mut groups[*group as usize]) {
                    (Some(inside), Some(members)) => write_members(inside, members),
                    // The parser says what is wrong with it.
                    (_, group_members) => {
                        *group_members = None;
                        write_member(group.name(), cell, out);
                    }
                },
            }
        }
        for (group, members) in Group::ALL.iter().zip(groups) {
            if let Some(members) = members.filter(|members| !members.is_empty()) {
                write_name(group.name(), out);
                out.push(b'{');
                out.extend_from_slice(&members);
                out.push(b'}');
            }
        }
        out.push(b'}');
        Ok(())
    }
}

fn places(header: &[&str], overrides: &[Override]) -> Result<Vec<Place>, HeaderError> {
    let overridden = |name: &str| overrides.iter().find(|it| it.column == name);
    // What somebody decided, nobody else becomes; and who names a member exactly comes before a likeness.
    let decided = overrides.iter().filter_map(|it| role(&it.member)).collect::<HashSet<_>>();
    let mut taken = header.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
    let mut named_members = HashSet::new();
    let mut places = Vec::with_capacity(header.len());
    for (at, name) in header.iter().enumerate() {
        places.push(match overridden(name) {
            Some(it) if it.member != "-" && !named_members.insert(&*it.member) => {
                return Err(HeaderError::SameMember(it.member.clone()));
            }
            Some(it) => named(&it.member)?,
            None => match guessed(at, name, &mut taken) {
                Place::Top(member) if role(&member).is_some_and(|it| decided.contains(it)) => {
                    Place::Inside(Group::Properties, (*name).to_owned())
                }
                place => place,
            },
        });
    }
    Ok(places)
}

/// What a member becomes when it is alone.
fn role(member: &str) -> Option<&'static str> {
    names::roles(&[member])[0]
}

/// Where somebody wants a column to go.
fn named(member: &str) -> Result<Place, HeaderError> {
    if member == "-" {
        return Ok(Place::Nowhere);
    }
    if let Some(place) = in_a_group(member) {
        return Ok(place);
    }
    if names::NAMES.contains(&member) || member == "r" {
        return Ok(Place::Top(member.to_owned()));
    }
    let meant = names::spelling(member).map(|it| format!(" (did you mean `{it}`?)"));
    Err(HeaderError::NoSuchMember(member.to_owned(), meant.unwrap_or_default()))
}

fn in_a_group(member: &str) -> Option<Place> {
    for group in Group::ALL {
        match member.strip_prefix(group.name()) {
            Some("") => return Some(Place::Whole(group)),
            Some(rest) if rest.len() > 1 && rest.starts_with('.') => {
                return Some(Place::Inside(group, rest[1..].to_owned()));
            }
            _ => {}
        }
    }
    None
}

fn guessed(at: usize, name: &str, taken: &mut HashSet<String>) -> Place {
    if let Some(place) = in_a_group(name) {
        return place;
    }
    match names::spelling(name) {
        Some(meant) if meant == name || taken.insert(meant.to_owned()) => {
            Place::Top(meant.to_owned())
        }
        _ if name.is_empty() => Place::Top(format!("column{}", at + 1)),
        _ => Place::Top(name.to_owned()),
    }
}

fn tops<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<&'a str> {
    places
        .map(|place| match place {
            Place::Top(member) => &**member,
            Place::Inside(..) | Place::Whole(_) | Place::Nowhere => "",
        })
        .collect()
}

fn describe(header: &[&str], places: Vec<Place>) -> Vec<Column> {
    let roles = names::roles(&tops(places.iter()));
    let columns = header.iter().zip(places).zip(roles).map(|((name, place), role)| {
        let becomes = match (&place, role) {
            (Place::Top(_), Some(role)) => role.to_owned(),
            (Place::Top(member), None) => format!("properties.{member}"),
            (Place::Inside(group, member), _) => format!("{}.{member}", group.name()),
            (Place::Whole(group), _) => group.name().to_owned(),
            (Place::Nowhere, _) => "-".to_owned(),
        };
        Column { name: (*name).to_owned(), becomes, place }
    });
    columns.collect()
}

fn write_member(name: &str, cell: &str, out: &mut Vec<u8>) {
    write_name(name, out);
    if is_bare(cell) {
        out.extend_from_slice(cell.as_bytes());
    } else {
        serde_json::to_writer(out, cell).expect("a Vec takes every byte");
    }
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    write_comma(out);
    serde_json::to_writer(&mut *out, name).expect("a Vec takes every byte");
    out.push(b':');
}

fn write_members(members: &str, out: &mut Vec<u8>) {
    if !members.is_empty() {
        write_comma(out);
        out.extend_from_slice(members.as_bytes());
    }
}

fn write_comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
}

/// What stands between the braces, if the cell is one JSON object and nothing else.
fn object_inside(cell: &str) -> Option<&str> {
    let cell = cell.trim();
    if !cell.starts_with('{') {
        return None;
    }
    let whole: &RawValue = serde_json::from_str(cell).ok()?;
    whole.get().strip_prefix('{')?.strip_suffix('}').map(str::trim)
}

/// Whether the cell is `true`, `false`, or a number that keeps its digits in every reader: at most 15 of them, no
/// leading zero, no exponent. `007`, `+1` and a card number stay text.
fn is_bare(cell: &str) -> bool {
    const DIGITS_MAX: usize = 15; // A double holds every one of these.
    if matches!(cell, "true" | "false") {
        return true;
    }
    let number = cell.strip_prefix('-').unwrap_or(cell);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    number.len() <= DIGITS_MAX + 1
        && is_digits(whole)
        && is_digits(fraction)
        && (whole == "0" || !whole.starts_with('0'))
        && number.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &str, overrides: &[&str]) -> Result<Columns, HeaderError> {
        let overrides: Vec<_> = overrides.iter().map(|it| it.parse().unwrap()).collect();
        Columns::of(header.split(',').map(str::as_bytes), &overrides, false)
    }

    fn becomes(header: &str, overrides: &[&str]) -> Vec<String> {
        columns(header, overrides).unwrap().iter().map(|it| it.becomes.clone()).collect()
    }

    fn json(header: &str, row: &[&str]) -> String {
        let mut out = Vec::new();
        let cells: Vec<_> = row.iter().map(|cell| cell.as_bytes()).collect();
        columns(header, &[]).unwrap().write_json(cells.into_iter(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_header_is_guessed_whatever_its_case_and_separators() {
        assert_eq!(
            becomes("User ID,Event-Type,post_id,Created At,price", &[]),
            ["userId", "type", "objectId", "occurredAt", "properties.price"]
        );
        assert_eq!(
            becomes("user id,userId,type,context.ip,properties,", &[]),
            [
                "properties.user id",
                "userId",
                "type",
                "context.ip",
                "properties",
                "properties.column6"
            ]
        );
    }

    #[test]
    fn an_override_beats_every_guess() {
        assert_eq!(
            becomes("who,what,id,junk", &["who=userId", "what=type", "id=properties.id", "junk=-"]),
            ["userId", "type", "properties.id", "-"]
        );
        assert_eq!(
            becomes("userId,uid,type,event", &["uid=user_id"]),
            ["properties.userId", "userId", "type", "properties.event"]
        );
    }

    #[test]
    fn what_cannot_become_an_event_is_said_before_a_row_is_read() {
        let error =
            |header, overrides: &[&str]| columns(header, overrides).unwrap_err().to_string();
        assert!(error("who,type", &[]).contains("COLUMN=userId"));
        assert!(error("userId,a", &[]).contains("`type`"));
        assert!(error("userId,type,a,a", &[]).contains("two columns"));
        assert!(error("userId,type", &["x=userId"]).contains("\"userId\", \"type\""));
        assert!(error("userId,type,a", &["a=User_ID"]).contains("did you mean `userId`"));
        assert!(error("userId,type,a", &["a=type", "type=type"]).contains("decide for one"));
        assert!(error("", &[]).contains("empty"));
    }

    #[test]
    fn a_flat_header_is_recognised_and_keeps_the_names_it_is_recognised_by() {
        let flat = columns("Event Name,content_id,userId,event_datetime,sid,attr", &[]).unwrap();
        assert_eq!(flat.flat_form(), Some("content"));
        let flat = columns("event_name,Client ID,Product ID,ts,r", &[]).unwrap();
        assert_eq!(flat.flat_form(), Some("product"));
        let becomes: Vec<_> = flat.iter().map(|it| &*it.becomes).collect();
        assert_eq!(becomes, ["type", "userId", "objectId", "occurredAt", "properties.r"]);
    }

    #[test]
    fn cells_become_what_json_would_write_just_so_and_text_else() {
        let header = "userId,type,a,b,c,d,e,f,g";
        assert_eq!(
            json(
                header,
                &["007", "like", "1.50", "true", "", "+1", "1234567890123456", "x\"\n", "-0.5"]
            ),
            r#"{"userId":"007","type":"like","a":1.50,"b":true,"d":"+1","e":"1234567890123456","f":"x\"\n","g":-0.5}"#
        );
    }

    #[test]
    fn numbers_that_some_reader_would_change_stay_text() {
        for bare in ["0", "-1", "10.50", "999999999999999", "0.25", "false"] {
            assert!(is_bare(bare), "{bare}");
        }
        for text in [
            "00",
            "01.5",
            "1.",
            ".5",
            "1e3",
            "1,5",
            "9999999999999999",
            "-",
            "--1",
            "1.2.3",
            " 1",
            "NaN",
        ] {
            assert!(!is_bare(text), "{text}");
        }
    }

    #[test]
    fn an_object_in_its_cell_is_taken_as_one_and_nothing_breaks_out_of_it() {
        let header = "userId,type,properties,properties.b";
        assert_eq!(
            json(header, &["u", "t", " {\"a\":{}} ", "2"]),
            r#"{"userId":"u","type":"t","properties":{"a":{},"b":2}}"#
        );
        assert_eq!(
            json(header, &["u", "t", "{}", "2"]),
            r#"{"userId":"u","type":"t","properties":{"b":2}}"#
        );
        assert_eq!(
            json(header, &["u", "t", r#"{"a":1},"userId":"x""#, ""]),
            r#"{"userId":"u","type":"t","properties":"{\"a\":1},\"userId\":\"x\""}"#
        );
        assert_eq!(
            json(header, &["u", "t", "no object", "2"]),
            r#"{"userId":"u","type":"t","properties":"no object"}"#
        );
    }

    #[test]
    fn a_row_of_another_width_is_refused() {
        let columns = columns("userId,type", &[]).unwrap();
        for row in [&[&b"u"[..]][..], &[b"u", b"t", b"x"]] {
            let error = columns.write_json(row.iter().copied(), &mut Vec::new()).unwrap_err();
            assert_eq!(error.code(), "cell_count");
        }
    }

    #[test]
    fn the_column_behind_a_pointer_is_known() {
        let columns = columns("Who,type,context.ip", &["Who=userId"]).unwrap();
        assert_eq!(columns.column_at("/userId"), Some("Who"));
        assert_eq!(columns.column_at("/context/ip"), Some("context.ip"));
        assert_eq!(columns.column_at(""), None);
    }
}
