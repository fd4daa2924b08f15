//! An instance's console: a FIFO that every process of the instance may write to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::calls::{Event, Wire, lock};

/// What the instance printed so far, and the way for more.
#[derive(Debug)]
pub(crate) struct Console {
    instance: String,
    wire: Arc<Wire>,
    text: Mutex<Text>,
}

#[derive(Debug, Default)]
struct Text {
    whole: Vec<u8>,
    /// The end of `whole` up to which lines were shown.
    shown: usize,
}

impl Console {
    pub(crate) fn new(instance: &str, wire: Arc<Wire>) -> Self {
        Console {
            instance: instance.into(),
            wire,
            text: Mutex::default(),
        }
    }

    /// All the text so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.text).whole).into_owned()
    }

    /// Prints a line in the machine's own name.
    pub(super) fn say(&self, line: &str) {
        self.append(format!("{line}\n").as_bytes());
    }

    fn append(&self, bytes: &[u8]) {
        let mut lines = Vec::new();
        {
            let mut text = lock(&self.text);
            text.whole.extend_from_slice(bytes);
            while let Some(length) = text.whole[text.shown..].iter().position(|b| *b == b'\n') {
                let line = &text.whole[text.shown..text.shown + length];
                lines.push(String::from_utf8_lossy(line).trim_end().to_owned());
                text.shown += length + 1;
            }
        }
        for line in lines {
            self.wire.emit(Event::Console {
                id: self.instance.clone(),
                line,
            });
        }
    }

    /// Makes the FIFO and reads it until the task is aborted.
    pub(crate) fn open(self: &Arc<Self>, fifo: &Path) -> io::Result<(JoinHandle<()>, File)> {
        nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Both ends: reading never ends because the last writer left.
        let reader = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(fifo)?;
        let rest = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(fifo)?;
        let console = self.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                if reader.readable().await.is_err() {
                    return;
                }
                match reader.try_read(&mut buffer) {
                    Ok(length) => console.append(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
        Ok((task, rest))
    }

    /// Takes what is still in the FIFO when no process writes any more.
    pub(crate) fn drain(&self, mut rest: &File) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = rest.read(&mut buffer) {
            self.append(&buffer[..length]);
        }
    }
}

/// Standard output for a process of the instance.
pub(crate) fn output(fifo: &Path) -> io::Result<Stdio> {
    Ok(OpenOptions::new().read(true).write(true).open(fifo)?.into())
}

/// Answers a caller that waits at a FIFO; one that is gone is fine.
pub(super) fn answer(fifo: &Path, line: &str) {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(fifo);
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
