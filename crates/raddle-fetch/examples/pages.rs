//! Fetches pages: those that are named, or some of a server that the example starts for itself.
//!
//! `cargo run --release --example pages [URL ...]`

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use raddle_fetch::{Error, Options};

fn main() -> Result<(), Error> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        let server = start_server().expect("there is a free port on the loopback interface");
        urls = (1..=1000).map(|number| format!("{server}/page/{number}")).collect();
        urls.push(format!("{server}/missing"));
        urls.push("http://nowhere.invalid/".into());
    }
    let start = Instant::now();
    let outcomes = raddle_fetch::fetch(&urls, &Options::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let (answers, failures): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.is_ok());
    for outcome in outcomes.iter().filter(|outcome| !outcome.as_ref().is_ok_and(|page| page.is_ok())).take(10) {
        match outcome {
            Ok(page) => println!("{} {}", page.status(), page.url()),
            Err(error) => println!("{error}"),
        }
    }
    let bytes: usize = answers.iter().flat_map(|outcome| outcome.as_ref().ok()).map(|page| page.body().len()).sum();
    println!(
        "{} pages, {bytes} bytes, {} without an answer, in {seconds:.3} s: {:.0} a second",
        answers.len(),
        failures.len(),
        urls.len() as f64 / seconds
    );
    Ok(())
}

/// A server that says a line to each request, until the program ends.
fn start_server() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
    Ok(format!("http://{address}"))
}

fn serve(mut connection: TcpStream) -> std::io::Result<()> {
    let mut requests = BufReader::new(connection.try_clone()?);
    loop {
        let mut first = String::new();
        if requests.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while requests.read_line(&mut line)? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let status = if path == "/missing" { "404 Not Found" } else { "200 OK" };
        let body = format!("this is {path}\n");
        // In one piece: the system would hold the second of two small ones back.
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        connection.write_all(answer.as_bytes())?;
    }
}
