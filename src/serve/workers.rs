//! The event loops: one current-thread runtime per worker, which connections never leave.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slog::{Logger, debug};
use tokio::sync::{mpsc, oneshot};

use super::protocol;
use super::registry::Registration;
use super::stream::Stream;
use super::{Connection, Counted, Crowd, Handler, Registry, Timeouts, lifetime};
use crate::config::ServerTls;
use crate::listen;
use crate::worker;

/// A connection on its way to a worker.
pub struct Arrival {
    pub stream: listen::Stream,
    pub connection: Arc<Connection>,
    pub timeouts: Timeouts,
    pub tls: Option<ServerTls>,
    pub counted: Counted,
}

enum Job {
    Serve(Arrival, Held),
    /// Answered by the event loop itself, to show that it turns.
    Ping(oneshot::Sender<()>),
    /// Ends the loop.
    Stop,
}

pub struct Workers {
    all: Vec<Worker>,
    registry: Arc<Registry>,
    crowd: Arc<Crowd>,
}

struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` event loops that serve with `handler`.
    ///
    /// # Errors
    /// When the system gives no thread or no epoll instance.
    pub fn start<H: Handler>(count: usize, handler: &Arc<H>, log: &Logger) -> io::Result<Self> {
        let registry = Arc::new(Registry::default());
        let mut all = Vec::with_capacity(count);
        for index in 0..count {
            all.push(start_worker(index, handler, log)?);
        }
        Ok(Self {
            all,
            registry,
            crowd: Arc::default(),
        })
    }

    /// Hands a connection to the worker that has the fewest.
    pub fn dispatch(&self, arrival: Arrival) {
        let least = self
            .all
            .iter()
            .min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        if let Some(worker) = least {
            let held = Held {
                _count: Count::one(&worker.connections),
                // Here and not on the worker, or a drain could miss it on the way.
                _registration: self.registry.register(&arrival.connection),
            };
            // A worker that is gone takes its connections with it: nothing to tell.
            let _ = worker.jobs.send(Job::Serve(arrival, held));
        }
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn crowd(&self) -> &Arc<Crowd> {
        &self.crowd
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns once every event loop has turned.
    pub async fn turn(&self) {
        for worker in &self.all {
            let (reply, turned) = oneshot::channel();
            let _ = worker.jobs.send(Job::Ping(reply));
            let _ = turned.await;
        }
    }

    /// Ends the event loops; what they still serve ends with them. Waits for none:
    /// one that hangs must not keep the process from ending.
    pub fn stop(&self) {
        for worker in &self.all {
            let _ = worker.jobs.send(Job::Stop);
        }
    }
}

fn start_worker<H: Handler>(index: usize, handler: &Arc<H>, log: &Logger) -> io::Result<Worker> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_name(format!("resolver-{index}"))
        .build()?;
    let (jobs, queue) = mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let serving = run(queue, Arc::clone(handler), log.clone());
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            worker::enter(index);
            runtime.block_on(serving);
            // A name being looked up must not hold the exit.
            runtime.shutdown_background();
        })?;
    Ok(Worker { jobs, connections })
}

async fn run<H: Handler>(mut queue: mpsc::UnboundedReceiver<Job>, handler: Arc<H>, log: Logger) {
    let h2 = Arc::new(protocol::h2());
    while let Some(job) = queue.recv().await {
        match job {
            Job::Serve(arrival, held) => {
                let Arrival {
                    stream,
                    connection,
                    timeouts,
                    tls,
                    counted,
                } = arrival;
                let (h2, handler, log) = (Arc::clone(&h2), Arc::clone(&handler), log.clone());
                tokio::spawn(async move {
                    let _held = (held, counted);
                    let stream = async {
                        Stream::adopt(stream)?
                            .secure(tls.as_ref(), &connection)
                            .await
                    };
                    match stream.await {
                        Ok(stream) => {
                            lifetime::serve(&h2, stream, connection, timeouts, handler, &log).await;
                        }
                        Err(error) => {
                            debug!(log, "connection lost before it was served"; "peer" => %connection.peer, "reason" => %error)
                        }
                    }
                });
            }
            Job::Ping(reply) => {
                let _ = reply.send(());
            }
            Job::Stop => return,
        }
    }
}

/// What lasts as long as a connection does.
struct Held {
    _count: Count,
    _registration: Registration,
}

/// A connection counted with its worker.
struct Count(Arc<AtomicUsize>);

impl Count {
    fn one(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(of))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
