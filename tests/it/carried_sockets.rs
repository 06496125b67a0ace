//! A resource that only one version can have, such as a port, is handed from version to version.

use std::{io::Read as _, net::TcpStream, thread};

use hotswap_engine::{args, protocol::VersionState};

use crate::support::Host;

#[test]
fn sockets_and_files_are_carried() {
    let host = Host::with(&["carries-sockets"]);
    let call = || host.engine.plugin("carries-sockets").unwrap();
    let address = call().invoke::<Option<String>>("address", args![]).unwrap().unwrap();
    for version in 2..5 {
        // A client that connects between two versions is not lost.
        let client = TcpStream::connect(&address).unwrap();
        host.plugins.install("carries-sockets", version);
        host.reload();
        host.wait_for("carries-sockets", version - 1, VersionState::Freed);
        let reading = thread::spawn(|| {
            let (mut text, mut client) = (String::new(), client);
            client.read_to_string(&mut text).unwrap();
            text
        });
        call().invoke::<()>("answer", args![]).unwrap();
        assert_eq!(reading.join().unwrap(), format!("REVISION{version:04}"));
        let passed: Option<(u8, u8)> = call().invoke("pass", args![version]).unwrap();
        assert_eq!(passed, Some((u8::try_from(version).unwrap(), 0)));
    }
}
