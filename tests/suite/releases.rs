//! A small HTTP server that has the releases of a repository.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

/// What it does with a request.
#[derive(Clone)]
pub enum Answer {
    File(Vec<u8>),
    /// Half of the file, as if it were the whole of it, and then the end.
    Half(Vec<u8>),
    /// Nothing, for as long as somebody waits for it.
    Never,
}

/// Contents by path; other paths are 404.
type Files = Arc<Mutex<HashMap<String, Answer>>>;

pub struct Releases {
    pub address: SocketAddr,
    files: Files,
    /// The paths that were asked for.
    pub asked: Receiver<String>,
    /// A word for each one that stopped waiting for an answer.
    pub gone: Receiver<()>,
}

impl Releases {
    /// Serves until the tests end.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("an address");
        let files = Files::default();
        let (ask, asked) = unbounded();
        let (go, gone) = unbounded();
        let served = Arc::clone(&files);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (files, ask, go) = (Arc::clone(&served), ask.clone(), go.clone());
                thread::spawn(move || answer(stream, &files, &ask, &go));
            }
        });
        Self {
            address,
            files,
            asked,
            gone,
        }
    }

    pub fn put(&self, path: &str, answer: Answer) {
        self.files.lock().insert(path.to_owned(), answer);
    }
}

/// Answers one request. A failed write is ignored: the client has gone.
fn answer(mut stream: TcpStream, files: &Files, ask: &Sender<String>, go: &Sender<()>) {
    let mut head = BufReader::new(
        stream
            .try_clone()
            .expect("the socket has another descriptor"),
    )
    .lines();
    let Some(Ok(request)) = head.next() else {
        return;
    };
    while head
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let path = request
        .split(' ')
        .nth(1)
        .expect("the request has a path")
        .to_owned();
    let answer = files.lock().get(&path).cloned();
    let _ = ask.send(path);
    let mut reply = |status: &str, length: usize, body: &[u8]| {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body);
    };
    match answer {
        Some(Answer::File(body)) => reply("200 OK", body.len(), &body),
        Some(Answer::Half(body)) => reply("200 OK", body.len(), &body[..body.len() / 2]),
        Some(Answer::Never) => {
            let _ = stream.read(&mut [0; 1]);
            let _ = go.send(());
        }
        None => reply("404 Not Found", 0, &[]),
    }
}
