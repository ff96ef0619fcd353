//! Passwords: argon2id with OWASP's parameters (19 MiB, two passes, one lane), off the async threads.
//!
//! Each verification takes tens of milliseconds and 19 MiB, so only a few run at once and few may
//! wait: a flood of logins must not take the host's memory. An unknown user costs the same as a
//! known one, or the answer's delay would tell which names exist.
//! <https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wharf_shared::auth::{PASSWORD_MAX_BYTES, PASSWORD_MIN_BYTES};
use wharf_shared::problem::ProblemKind;

use crate::error::{Result, ServiceError};

/// Hashes computed at once: two cores' worth, 38 MiB.
const AT_ONCE: usize = 2;
/// Callers that may wait for their turn, a few seconds' work.
const WAITING: usize = 64;

/// Hashes and verifies passwords.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Of no password; verified when there is no such user.
    dummy: Arc<str>,
}

impl Passwords {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            dummy: hash(b"no user has this password")?.into(),
        })
    }

    /// What is stored of a password; refuses one that is too short or too long.
    pub(crate) async fn hash(&self, field: &str, password: &str) -> Result<String> {
        if !(PASSWORD_MIN_BYTES..=PASSWORD_MAX_BYTES).contains(&password.len()) {
            return Err(ServiceError::invalid_field(
                field,
                format!("a password has {PASSWORD_MIN_BYTES} to {PASSWORD_MAX_BYTES} bytes"),
            ));
        }
        let turn = self.turn().await?;
        let password = password.to_owned();
        run(turn, move || hash(password.as_bytes())).await?
    }

    /// Whether the password is the one that was hashed; `None` is a user who does not exist.
    pub(crate) async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool> {
        let turn = self.turn().await?;
        // What is longer was never set; it is still made to take its time.
        let fits = password.len() <= PASSWORD_MAX_BYTES;
        let password = if fits { password.to_owned() } else { String::new() };
        let exists = stored.is_some();
        let stored = stored.unwrap_or(&self.dummy).to_owned();
        let same = run(turn, move || verify(password.as_bytes(), &stored)).await??;
        Ok(same && exists && fits)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let busy = || ServiceError::new(ProblemKind::RateLimited, "too many sign-ins at once; try again");
        let _waiting = self.waiting.try_acquire().map_err(|error| busy().because(error))?;
        Arc::clone(&self.running).acquire_owned().await.map_err(|error| busy().because(error))
    }
}

async fn run<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    // The permit goes along: a caller that gives up does not free the core that still computes.
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    })
    .await
    .map_err(|error| ServiceError::internal("a password could not be worked on", error))
}

fn argon2() -> Argon2<'static> {
    // These are `Params::DEFAULT` of argon2 0.5 too; a test holds them.
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn hash(password: &[u8]) -> Result<String> {
    let failed = |error: argon2::password_hash::Error| {
        ServiceError::internal("the password could not be hashed", error.to_string())
    };
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| ServiceError::internal("the kernel gave no random bytes", error))?;
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    Ok(argon2().hash_password(password, &salt).map_err(failed)?.to_string())
}

fn verify(password: &[u8], stored: &str) -> Result<bool> {
    let failed = |error: argon2::password_hash::Error| {
        ServiceError::internal("the stored password hash cannot be read", error.to_string())
    };
    let stored = PasswordHash::new(stored).map_err(failed)?;
    match argon2().verify_password(password, &stored) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_an_existing_user_is_accepted() {
        let passwords = Passwords::new().expect("set up");
        let stored = passwords.hash("password", "correct horse battery").await.expect("hashed");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(passwords.verify("correct horse battery", Some(&stored)).await.expect("verified"));
        assert!(!passwords.verify("correct horse batterx", Some(&stored)).await.expect("verified"));
        assert!(!passwords.verify("no user has this password", None).await.expect("verified"));
        assert!(!passwords.verify(&"x".repeat(5_000), Some(&stored)).await.expect("verified"));
    }

    #[tokio::test]
    async fn a_short_or_endless_password_is_refused() {
        let passwords = Passwords::new().expect("set up");
        assert!(passwords.hash("password", "short").await.is_err());
        assert!(passwords.hash("password", &"x".repeat(1_025)).await.is_err());
    }
}
