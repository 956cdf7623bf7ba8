//! A web server for the tests: a function makes the bytes of each answer from the head of its request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a handler says.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// Whether the connection is closed behind it.
    pub(crate) closes: bool,
}

impl Answer {
    /// A page with a status line, such as `200 OK`, and headers that end in line breaks.
    pub(crate) fn page(status: &str, headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Self { bytes: [head.as_bytes(), body].concat(), closes: false }
    }

    /// Bytes as they are, and the end of the connection.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), closes: true }
    }
}

/// A server that runs until the test ends.
pub(crate) struct Server {
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), Arc::clone(&heads));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let open = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&open);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                let opened = Arc::clone(&opened);
                opened.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    serve(connection, &*handler, &seen);
                    opened.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, heads, connections, open }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The heads of the requests that came, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut connection: TcpStream, handler: &dyn Fn(&str) -> Answer, seen: &Mutex<Vec<String>>) {
    let mut input = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 4096];
            match connection.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(bytes) => input.extend_from_slice(&piece[..bytes]),
            }
        };
        let head = String::from_utf8_lossy(&input[..end]).to_lowercase();
        input.drain(..end);
        seen.lock().unwrap().push(head.clone());
        let answer = handler(&head);
        if connection.write_all(&answer.bytes).is_err() || answer.closes {
            return;
        }
    }
}
