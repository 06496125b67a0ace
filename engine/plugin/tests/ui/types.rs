//! Borrows that are hidden behind a type alias, so that only the types show them.

use hotswap_plugin::prelude::*;

type Text = &'static str;
type Lent<'a> = &'a str;

#[interface]
trait KeepsByName {
    fn keep(&self, text: Text);
}

#[interface]
trait KeepsForLife {
    fn keep(&self, text: Lent<'static>);
}

#[interface]
trait KeepsInside {
    fn keep(&self, text: Option<&'static str>);
}

#[interface]
trait KeepsBehind {
    fn keep(&self, text: &Text);
}

#[interface]
trait Answers {
    fn answer(&self) -> Result<&'static str>;
}

macro_rules! text {
    () => {
        &'static str
    };
}

#[interface]
trait KeepsOfMacro {
    fn keep(&self, text: text!());
}

fn main() {}
