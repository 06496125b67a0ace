//! A connection to the console socket of a host, through which a program calls its plugins one call after the other.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use hotswap_engine::protocol::PROTOCOL_VERSION;
use serde_json::{Value, json};

use crate::support::PATIENCE;

pub struct Caller {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
    last: u64,
}

impl Caller {
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(stream.try_clone()?);
        let mut caller = Self { stream, answers, last: 0 };
        caller.ask("hello", &json!({ "protocol": PROTOCOL_VERSION, "client": "caller" }))?;
        Ok(caller)
    }

    /// Sends a request, and does not wait for the answer.
    pub fn begin(&mut self, method: &str, params: &Value) -> io::Result<()> {
        self.last += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params });
        writeln!(self.stream, "{line}")
    }

    pub fn ask(&mut self, method: &str, params: &Value) -> io::Result<Value> {
        self.begin(method, params)?;
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer: Value = serde_json::from_str(&line)?;
            if answer["id"] == self.last {
                return Ok(answer);
            }
        }
    }

    /// Calls a function of `echo`.
    pub fn call(&mut self, function: &str, args: &[&str]) -> io::Result<Value> {
        self.ask("invoke", &json!({ "plugin": "echo", "function": function, "args": args }))
    }
}
