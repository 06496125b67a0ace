//! The configuration file, and its schema for editors.

use std::collections::BTreeSet;

use hotswap_console::screen::config::{self, Config, ConfigError};
use hotswap_console::screen::input::action::COMMANDS;
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::update::Effect;
use hotswap_console::screen::view::Theme;
use hotswap_console::session::{Order, Watch};
use serde_json::Value;

use crate::support::console::Console;

fn with_keys(keys: &str) -> Console {
    let config: Config = format!("[keys]\n{keys}").parse().unwrap();
    let mut console = Console::connected(120, 36);
    console.state.keymap = config.keymap;
    console
}

fn problem(text: &str) -> ConfigError {
    text.parse::<Config>().unwrap_err()
}

#[test]
fn a_command_has_only_its_configured_keys() {
    let mut console = with_keys("watch = [\"g w\", \"F5\"]\nzoom = \"b\"\nquit = []");
    let watch = [Effect::Order(Order::Watch(Watch::Ask))];
    assert_eq!(console.press("w"), []);
    assert_eq!(console.press("g w"), watch);
    assert_eq!(console.press("b"), [], "`b` does not start a build any more");
    assert!(console.state.zoomed);
    console.press("b q");
    assert_eq!(console.state.overlay, None);
    console.press("Ctrl-C");
    assert!(
        matches!(console.state.overlay, Some(Overlay::Confirm { .. })),
        "Ctrl-C cannot be unbound"
    );
}

#[test]
fn the_footer_and_the_help_show_the_keys_as_they_are() {
    let mut console = with_keys("reload = \"Ctrl-R\"\nhelp = \"h\"");
    assert!(console.screen().contains("Ctrl-R reload"), "{}", console.screen());
    console.press("h");
    assert!(console.screen().contains("Ctrl-R        Reload every"), "{}", console.screen());
}

#[test]
fn a_mistake_is_reported_with_its_line() {
    for (text, line, words) in [
        ("[keys]\nreload = \"r\"\nrelod = \"r\"", 3, "`relod` is not a command"),
        // For a list of keys, this is the line where the list begins.
        ("[keys]\nreload = [\"r\",\n \"Hyper-R\"]", 2, "`Hyper-R` is not a key"),
        ("[keys]\n\nreload = 1", 3, "a key such as"),
        ("[keys]\nreload = \"F5\"\nbuild = \"F5\"", 3, "F5"),
        ("[theme]\ncolours = \"pink\"", 2, "pink"),
        ("[theme.styles]\ntitle = { fg = \"no colour\" }", 2, "`no colour` is not a colour"),
        ("[theme.styles]\nheading = { bold = true }", 2, "`heading` is not a style"),
        ("\n[kees]", 2, "kees"),
        ("[keys\n", 1, ""),
    ] {
        let error = problem(text);
        assert_eq!(error.line, line, "{text}\n{error}");
        assert!(error.message.contains(words), "{text}\n{error}");
    }
}

#[test]
fn a_bad_file_is_reported_and_the_defaults_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console.toml");
    assert_eq!(config::load(&path).1, None, "a missing file is not an error");
    std::fs::write(&path, "[keys]\nzoom = \"?\"\nbuild = 3\n").unwrap();
    let (config, problem) = config::load(&path);
    let problem = problem.unwrap();
    assert!(problem.contains("console.toml, line 3: "), "{problem}");
    let mut console = Console::connected(120, 36);
    console.state.keymap = config.keymap;
    console.state.overlay = Some(Overlay::bad_configuration(problem));
    assert!(console.screen().contains("line 3"), "{}", console.screen());
    console.press("Esc z");
    assert!(console.state.zoomed);
}

#[test]
fn an_ascii_screen_has_only_ascii_characters() {
    let config: Config = "[theme]\nborders = \"ascii\"\ncolours = \"never\"".parse().unwrap();
    let mut console = Console::connected(120, 36);
    for keys in ["", "?", "Esc R", "Esc :", "Esc i", "Esc 2 ]", "]", "]", "q"] {
        console.press(keys);
        let screen = console.screen_in(config.themes.of(config.themes.start().unwrap()));
        assert!(screen.is_ascii(), "{screen}");
    }
}

/// The published schema for editors.
fn schema() -> Value {
    serde_json::from_str(include_str!("../../../assets/console.schema.json")).unwrap()
}

fn names(properties: &Value) -> BTreeSet<&str> {
    properties.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_schema_has_the_names_that_the_parser_knows() {
    let schema = schema();
    let keys = &schema["properties"]["keys"]["properties"];
    assert_eq!(names(keys), COMMANDS.iter().map(|command| command.name).collect());
    for command in COMMANDS {
        let default = &keys[command.name]["default"];
        let reported: Vec<&str> = match default {
            Value::String(key) => vec![key],
            list => list.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
        };
        assert_eq!(reported, command.keys, "{}", command.name);
    }
    let theme = &schema["properties"]["theme"]["properties"];
    assert_eq!(names(&theme["styles"]["properties"]), Theme::style_names().into_iter().collect());
    assert_eq!(names(theme), BTreeSet::from(["borders", "colours", "styles"]));
    let all = BTreeSet::from(["$schema", "editor", "keys", "theme"]);
    assert_eq!(names(&schema["properties"]), all);
}

#[test]
fn the_parser_accepts_what_the_schema_allows() {
    let schema = schema();
    let theme = &schema["properties"]["theme"]["properties"];
    for name in ["colours", "borders"] {
        for value in theme[name]["enum"].as_array().unwrap() {
            format!("[theme]\n{name} = {value}").parse::<Config>().unwrap();
        }
        problem(&format!("[theme]\n{name} = \"neither\""));
    }
    for (name, property) in schema["$defs"]["style"]["properties"].as_object().unwrap() {
        let value = if property["type"] == "boolean" { "true" } else { "\"cyan\"" };
        format!("[theme.styles]\nbar = {{ {name} = {value} }}").parse::<Config>().unwrap();
    }
    problem("[theme.styles]\nbar = { blinking = true }");
    "\"$schema\" = \"console.schema.json\"\n".parse::<Config>().unwrap();
    let config: Config = "editor = \"edit {file}\"\n".parse().unwrap();
    assert_eq!(config.editor.as_deref(), Some("edit {file}"));
    for object in ["/properties/keys", "/properties/theme", "/$defs/style", ""] {
        let object = schema.pointer(object).unwrap();
        assert_eq!(object["additionalProperties"], false, "the parser refuses unknown names");
    }
}
