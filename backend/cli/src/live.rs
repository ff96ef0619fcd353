//! Following a topic of the live WebSocket across lost connections.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use anyhow::{Result, bail};
use wharf_shared::live::{ClientFrame, ServerFrame, Topic, TopicItem};
use wharf_shared::problem::{Problem, ProblemKind};

use crate::client::Client;
use crate::output;
use crate::resume::Resume;
use crate::socket::Socket;

/// The client's number for its only topic.
const SUB: u32 = 1;

/// One subscription on a connection of its own.
struct Subscription {
    socket: Socket<ServerFrame, ClientFrame>,
}

impl Subscription {
    async fn open(client: &Client, topic: Topic) -> Result<Self> {
        let hello = ClientFrame::Hello { ticket: None };
        let mut socket = Socket::open(client, &["live"], &[], &hello).await?;
        socket.send(&ClientFrame::Subscribe { sub: SUB, topic }).await?;
        Ok(Self { socket })
    }

    /// The next items; `None` when the topic has ended for good.
    async fn next(&mut self) -> Result<Option<Vec<TopicItem>>> {
        loop {
            match self.socket.next().await? {
                Some(ServerFrame::Items { sub: SUB, items }) => return Ok(Some(items)),
                Some(ServerFrame::End { sub: SUB }) => return Ok(None),
                Some(ServerFrame::Refused { sub, problem }) if sub.is_none_or(|sub| sub == SUB) => {
                    return Err(problem.into());
                }
                Some(
                    ServerFrame::Welcome { .. }
                    | ServerFrame::Pong
                    | ServerFrame::Items { .. }
                    | ServerFrame::End { .. }
                    | ServerFrame::Refused { .. },
                ) => {}
                None => bail!("the agent ended the connection"),
            }
        }
    }
}

/// Follows a topic until it ends or `see` returns false. `topic` says what to ask for at a cursor,
/// `see` gets the items; a lost connection is made anew where the last one ended.
pub(crate) async fn follow<C: Copy + PartialOrd>(
    client: &Client,
    mut resume: Resume<C>,
    topic: impl Fn(C) -> Topic,
    mut see: impl FnMut(&mut Resume<C>, TopicItem) -> Result<bool>,
) -> Result<()> {
    let mut told = false;
    loop {
        let lost = match Subscription::open(client, topic(resume.cursor())).await {
            Err(error) => error,
            Ok(mut subscription) => loop {
                match subscription.next().await {
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                    Ok(Some(items)) => {
                        if std::mem::take(&mut told) {
                            output::note("wharf: connected again");
                        }
                        for item in items {
                            if !see(&mut resume, item)? {
                                return Ok(());
                            }
                        }
                    }
                }
            },
        };
        if is_final(&lost) {
            return Err(lost);
        }
        if !told {
            output::note(&format!("wharf: {lost:#}; trying again"));
            told = true;
        }
        tokio::time::sleep(pause(&mut resume)).await;
    }
}

/// How long to wait now before the next try.
fn pause<C: Copy + PartialOrd>(resume: &mut Resume<C>) -> Duration {
    // The standard library's own randomness: good enough to spread clients.
    resume.pause(RandomState::new().build_hasher().finish())
}

/// Whether trying again cannot help: the agent said no, and not just "not now".
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Problem>().is_some_and(|problem| {
        !matches!(problem.kind, ProblemKind::Unavailable | ProblemKind::RateLimited | ProblemKind::Internal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_ends_the_tries() {
        let refused = |kind| is_final(&Problem::new(kind, "x").into());
        assert!(refused(ProblemKind::NotFound) && refused(ProblemKind::Unauthenticated));
        assert!(!refused(ProblemKind::Unavailable));
        assert!(!is_final(&anyhow::anyhow!("connection reset")));
    }
}
