//! The first inputs of the fuzz targets: real inputs, and inputs with one difference.

use hotswap_engine::artifact;
use hotswap_protocol::in_flight::{
    LEGEND_AT, LEGEND_TEXT_AT, MAGIC, ROW_BYTES, ROW_CALLS_AT, ROW_NAME_AT, ROW_THREAD_AT, ROWS_AT,
};

use crate::support::{artifact as built, find};

/// Inputs, by name.
type Inputs = Vec<(String, Vec<u8>)>;

pub fn all() -> [(&'static str, Inputs); 5] {
    [
        ("artifact", artifacts()),
        ("request", requests()),
        ("calls", calls()),
        ("dep_info", notes()),
        ("store", stored()),
    ]
}

/// The large sections that the facts of an artifact are read from. Small sections are always kept.
const READ: [&str; 3] = [".dynsym", ".dynstr", ".shstrtab"];
/// A larger section is code, or belongs to code.
const SMALL: usize = 1024;
/// The kind of a section that is not in the file.
const NO_BITS: u32 = 8;
const HEADER: usize = 64;
const SECTION: usize = 64;
/// The offsets of the sections' fields: in the file header, the place and the number of the section headers; in a
/// section header, the section's offset and size.
const SECTIONS_AT: usize = 40;
const COUNT_AT: usize = 60;
const OFFSET_AT: usize = 24;
const SIZE_AT: usize = 32;

fn number(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
}

/// An artifact with only the parts that are read without running it, stamped again.
pub fn without_code(file: &[u8]) -> Vec<u8> {
    let (start, count) = (number(file, SECTIONS_AT), usize::from(file[COUNT_AT]));
    let mut sections: Vec<Vec<u8>> =
        file[start..start + count * SECTION].chunks(SECTION).map(<[u8]>::to_vec).collect();
    let names = number(&sections[usize::from(file[62])], OFFSET_AT);
    let is_read = |section: &[u8]| {
        let word = |at: usize| u32::from_le_bytes(section[at..at + 4].try_into().unwrap());
        let name = &file[names + word(0) as usize..];
        let is_listed = READ.iter().any(|read| name.starts_with(format!("{read}\0").as_bytes()));
        word(4) != NO_BITS && (is_listed || number(section, SIZE_AT) <= SMALL)
    };
    let mut small = file[..HEADER].to_vec();
    for section in &mut sections {
        let (offset, size) = (number(section, OFFSET_AT), number(section, SIZE_AT));
        if !is_read(section) {
            // The section keeps its entry in the table, but has no content.
            section.fill(0);
            continue;
        }
        let content = &file[offset..offset + size];
        small.resize(small.len().next_multiple_of(16), 0);
        section[OFFSET_AT..OFFSET_AT + 8].copy_from_slice(&(small.len() as u64).to_le_bytes());
        section[SIZE_AT..SIZE_AT + 8].copy_from_slice(&(content.len() as u64).to_le_bytes());
        small.extend(content);
    }
    let at = small.len().next_multiple_of(16);
    small.resize(at, 0);
    small.extend(sections.concat());
    small[SECTIONS_AT..SECTIONS_AT + 8].copy_from_slice(&(at as u64).to_le_bytes());
    // The file has no segments.
    small[32..40].fill(0);
    small[56..58].fill(0);
    artifact::stamp(&mut small, None).expect("stamp what is left");
    small
}

fn artifacts() -> Inputs {
    let by_hand = without_code(&built("by-hand"));
    let mut inputs = vec![
        ("foreign".into(), without_code(&built("foreign"))),
        ("cut-in-sections".into(), by_hand[..by_hand.len() - 100].to_vec()),
        ("header".into(), by_hand[..HEADER].to_vec()),
    ];
    let mut without_stamp = by_hand.clone();
    let at = find(&without_stamp, b"HOTSWAP-PLUGIN").unwrap();
    without_stamp[at + 500..at + 520].fill(0);
    inputs.extend([("by-hand".into(), by_hand), ("without-stamp".into(), without_stamp)]);
    inputs
}

fn requests() -> Inputs {
    const PARAMS: [(&str, &str); 18] = [
        ("hello", r#"{"protocol":1,"client":"hotswap"}"#),
        ("hello-other", r#"{"protocol":2,"client":"hotswap"}"#),
        ("snapshot", "null"),
        ("vault", "null"),
        ("live", "null"),
        ("live-empty", "{}"),
        ("plan", r#"{"latest":true}"#),
        ("reload", "null"),
        ("reload_latest", "null"),
        ("rollback", r#"{"target":"world@v2"}"#),
        ("rollback-build", r#"{"target":"world@0123456789abcdef"}"#),
        ("free", r#"{"target":"world@1"}"#),
        ("hold", r#"{"target":"world@1"}"#),
        ("release", r#"{"target":"world@1"}"#),
        ("cancel", r#"{"id":7}"#),
        ("invoke", r#"{"plugin":"world","function":"greet","args":["Ada",2,null,[1.5],{"a":-1}]}"#),
        ("invoke-often", r#"{"plugin":"world","function":"greet","args":[],"repeat":3}"#),
        ("subscribe", r#"{"events":true,"logs":true,"backlog":200}"#),
    ];
    let line = |(name, params): &(&str, &str)| {
        let method = name.split('-').next().unwrap_or(name);
        let line = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"{method}","params":{params}}}"#);
        ((*name).to_owned(), line.into_bytes())
    };
    let mut inputs: Inputs = PARAMS.iter().map(line).collect();
    let odd = [
        ("nothing", ""),
        ("number", "7"),
        ("no-id", r#"{"method":"live"}"#),
        ("odd-id", r#"{"jsonrpc":"1.0","id":-1,"method":"live","params":null}"#),
        ("text", "\"\\ud800\""),
    ];
    inputs.extend(odd.map(|(name, line)| (name.into(), line.as_bytes().to_vec())));
    inputs.push(("deep".into(), b"[".repeat(500)));
    inputs
}

/// Bytes at a place of the file.
fn bytes_at(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut input = at.to_le_bytes()[..3].to_vec();
    input.push(bytes.len() as u8);
    input.extend(bytes);
    input
}

fn calls() -> Inputs {
    let head = [bytes_at(0, &MAGIC), bytes_at(MAGIC.len(), &4121_u32.to_ne_bytes())].concat();
    let legend = |length: u32, text: &[u8]| {
        [
            bytes_at(LEGEND_AT, &0x1000_u64.to_ne_bytes()),
            bytes_at(LEGEND_AT + 8, &4_u32.to_ne_bytes()),
            bytes_at(LEGEND_AT + 12, &length.to_ne_bytes()),
            bytes_at(LEGEND_AT + LEGEND_TEXT_AT, text),
        ]
        .concat()
    };
    let row = |thread: i32, address: u64, place: u64| {
        let row = ROWS_AT + 3 * ROW_BYTES;
        [
            bytes_at(row + ROW_THREAD_AT, &thread.to_ne_bytes()),
            bytes_at(row + ROW_CALLS_AT, &address.to_ne_bytes()),
            bytes_at(row + ROW_CALLS_AT + 8, &place.to_ne_bytes()),
            bytes_at(row + ROW_NAME_AT, b"http-3"),
        ]
        .concat()
    };
    let text = b"world\ngreet\nreset";
    vec![
        ("empty".into(), head.clone()),
        ("call".into(), [head.clone(), legend(17, text), row(4125, 0x1001, 1)].concat()),
        ("main".into(), [head.clone(), legend(17, text), row(4121, 0x1000, 9)].concat()),
        (
            "odd".into(),
            [head, legend(u32::MAX, b"\x1b[2J\xff\n\n"), row(-1, 0x1000, u64::MAX)].concat(),
        ),
        ("other-magic".into(), bytes_at(0, b"HOTSWAP-CALLS\r\n\x09")),
    ]
}

fn notes() -> Inputs {
    let dep_info = "/t/libworld.so: world/src/lib.rs /data/a\\ b.txt\n\n/t/world.d: world/src/lib.rs\n\n\
                    world/src/lib.rs:\n/data/a\\ b.txt:\n\n# env-dep:CARGO_PKG_NAME=world\n\
                    # env-dep:TEXT=two\\nlines\\\\\n# env-dep:UNSET\n# env-dep:ODD=\\\n";
    let unit = |name: &str, needed: &str| {
        format!(
            r#""{name}":{{"name":"{name}","invocation":{{"program":"rustc","args":["--crate-name",
            "{name}","--extern","{needed}=/t/lib{needed}.rmeta"],"dir":"/w","env":{{"A":null}}}},
            "package_dir":"/w/{name}","settings":"","diagnostics":[],"compiled":{{"inputs":[{{
            "path":"/w/lib.rs","content":{{"Hash":"00"}},"stat":null}}],"env":[["B","c"]],
            "externs":[],"outputs":[{{"path":"/t/lib{name}.rmeta","stat":null}}]}}}}"#
        )
    };
    let record = format!(
        r#"{{"form":1,"plugins":{{"world":{{"root":"a","units":["a","b","c"],"cargo_library":{{
        "modified_ns":1,"changed_ns":2,"size_bytes":3,"inode":4}},"guards":[],"env":{{}},
        "diagnostics":[],"build_id":null}}}},"units":{{{},{},{}}}}}"#,
        unit("a", "b"),
        unit("b", "c"),
        unit("c", "a"),
    );
    let script = "cargo:rerun-if-changed=build.rs\ncargo::rerun-if-env-changed=CC\ncargo:a\nb=c\n";
    vec![
        ("dep-info".into(), dep_info.into()),
        ("noted".into(), b"/bin/sh\0note-compilers.sh\0rustc\0--crate-name\0world\0".to_vec()),
        // Units that depend on each other in a circle, which a broken record may contain.
        ("record".into(), record.into_bytes()),
        ("build-script".into(), script.into()),
    ]
}

fn stored() -> Inputs {
    let id = "0123456789abcdef0123456789abcdef";
    let phases =
        r#"[{"phase":"cargo","plugin":null,"elapsed_us":7},{"phase":"stamp","elapsed_us":1}]"#;
    let file = |name: String, content: &str| format!("{name}\n{content}").into_bytes();
    vec![
        ("build".into(), file(format!("{id}.so"), "\u{7f}ELF")),
        ("phases".into(), file(format!("{id}.phases.json"), phases)),
        ("lock".into(), file(format!("{id}.loaded"), "")),
        ("capitals".into(), file(format!("{}.so", id.to_uppercase()), "")),
        ("signs".into(), file(format!("{}.so", "+1".repeat(16)), "")),
        ("id".into(), file(id.into(), "[[[[")),
        ("other".into(), file("thesis.txt".into(), "years of work")),
    ]
}
