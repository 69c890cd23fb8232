//! A server that answers every send at once and does nothing else, in a process of its own: against it the generator shows what
//! it could do.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::Result;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::load::http::message_length;

const LISTENER: Token = Token(usize::MAX - 1);
const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ready");
    let mut events = Events::with_capacity(256);
    let mut connections: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => loop {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            stream.set_nodelay(true)?;
                            poll.registry().register(&mut stream, Token(connections.len()), Interest::READABLE)?;
                            connections.push((stream, Vec::new()));
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                },
                Token(number) => {
                    let (stream, asked) = &mut connections[number];
                    answer(stream, asked, &mut buffer)?;
                }
            }
        }
    }
}

fn answer(stream: &mut TcpStream, asked: &mut Vec<u8>, buffer: &mut [u8]) -> Result<()> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => asked.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // A client that is gone asks for nothing more.
            Err(_) => return Ok(()),
        }
        while let Some(length) = message_length(asked)?
            && asked.len() >= length
        {
            asked.drain(..length);
            stream.write_all(ANSWER)?;
        }
    }
}
