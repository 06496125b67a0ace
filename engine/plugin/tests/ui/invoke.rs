use hotswap_plugin::prelude::*;

#[invoke]
fn borrows(name: &str) -> String {
    name.to_owned()
}

#[invoke]
fn is_generic<T>(value: T) {}

#[invoke]
fn has_no_name((a, b): (u32, u32)) {}

#[invoke]
unsafe fn is_unsafe() {}

#[invoke(fast)]
fn has_arguments() {}

#[invoke]
async fn keeps_the_vault(vault: &'static Vault) {}

macro_rules! keeps {
    ($vault:ty) => {
        #[invoke]
        async fn keeps_the_vault_of_a_macro(vault: $vault) {}
    };
}

keeps!(&'static Vault);

#[invoke]
fn asks_late(name: String, vault: &Vault) {}

#[invoke]
fn has_a_parameter_sometimes(#[cfg(unix)] file: u32) {}

struct Type;

impl Type {
    #[invoke]
    fn method(&self) {}
}

fn main() {}
