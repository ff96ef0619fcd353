//! Users, sessions, tokens and the setup secret.

use tokio::task::JoinSet;
use wharf_shared::id::UserId;
use wharf_shared::time::Timestamp;
use wharf_shared::user::Role;
use wharf_store::pagination::PageRequest;
use wharf_store::sessions::{self, SessionRecord};
use wharf_store::tokens::{self, NewToken};
use wharf_store::users::{self, UserRecord};
use wharf_store::{Db, StoreError, setup};

use super::{NOW, id, tenant};

fn user(name: &str, role: Role) -> UserRecord {
    UserRecord {
        id: id("usr"),
        name: name.to_owned(),
        password_hash: "$argon2id$…".to_owned(),
        role,
        tenant: None,
        created_at: NOW,
    }
}

fn session(user: &UserId, secret_hash: &str, expires_at: i64) -> SessionRecord {
    SessionRecord {
        secret_hash: secret_hash.to_owned(),
        user: user.clone(),
        csrf_token: "csrf".to_owned(),
        created_at: NOW,
        expires_at: Timestamp(expires_at),
    }
}

pub(crate) async fn a_setup_secret_makes_one_admin_only(db: Db) {
    let mut tx = db.begin().await.expect("begins");
    setup::put(&mut tx, "old", NOW).await.expect("kept");
    setup::put(&mut tx, "hash", NOW).await.expect("kept");
    assert!(!setup::consume(&mut tx, "old").await.expect("reads"), "a newer secret voids the older");
    tx.commit().await.expect("committed");

    // A transaction that fails after using the secret gives it back.
    let mut tx = db.begin().await.expect("begins");
    assert!(setup::consume(&mut tx, "hash").await.expect("reads"));
    tx.rollback().await.expect("undone");

    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let db = db.clone();
        tasks.spawn(async move {
            let mut tx = db.begin().await.expect("begins");
            let right = setup::consume(&mut tx, "hash").await.expect("reads");
            if right {
                users::insert(&mut tx, &user(&format!("admin-{number}"), Role::Admin)).await.expect("made");
            }
            tx.commit().await.expect("committed");
            right
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|right| *right).count(), 1);
    let mut tx = db.read().await.expect("begins");
    assert_eq!(users::count_admins(&mut tx).await.expect("reads"), 1);
}

pub(crate) async fn sessions_and_tokens_end_and_go_with_their_user(db: Db) {
    let blue = tenant(&db, "blue").await;
    let mut tx = db.begin().await.expect("begins");
    let alice = UserRecord { tenant: Some(blue.id.clone()), ..user("alice", Role::Member) };
    let bob = user("bob", Role::Operator);
    users::insert(&mut tx, &alice).await.expect("made");
    users::insert(&mut tx, &bob).await.expect("made");
    assert!(matches!(
        users::insert(&mut tx, &user("alice", Role::Admin)).await,
        Err(StoreError::Taken("name"))
    ));
    users::set_password(&mut tx, &alice.id, "new").await.expect("there");
    let alice = UserRecord { password_hash: "new".to_owned(), ..alice };
    assert_eq!(users::find_by_name(&mut tx, "alice").await.expect("reads"), Some(alice.clone()));
    assert_eq!(users::list(&mut tx, &PageRequest::whole()).await.expect("reads").items.len(), 2);

    for (hash, ends) in [("a", 10), ("b", 20), ("c", 30)] {
        sessions::insert(&mut tx, &session(&alice.id, hash, ends)).await.expect("kept");
    }
    let found = sessions::find(&mut tx, "b", Timestamp(19)).await.expect("reads");
    assert_eq!(found, Some((session(&alice.id, "b", 20), alice.clone())));
    assert_eq!(sessions::find(&mut tx, "b", Timestamp(20)).await.expect("reads"), None, "it has ended");
    assert_eq!(sessions::purge(&mut tx, Timestamp(10)).await.expect("purges"), 1);
    assert_eq!(sessions::delete_others(&mut tx, &alice.id, "c").await.expect("ends"), 1);
    assert!(sessions::delete(&mut tx, "c").await.expect("ends"));
    assert!(!sessions::delete(&mut tx, "c").await.expect("has ended"));
    sessions::insert(&mut tx, &session(&alice.id, "d", 100)).await.expect("kept");

    let new = |user: &UserRecord, name: &str, hash: &str| NewToken {
        id: id("tok"),
        user: user.id.clone(),
        name: name.to_owned(),
        secret_hash: hash.to_owned(),
        created_at: NOW,
        expires_at: Timestamp(NOW.0 + 1),
    };
    let token = tokens::insert(&mut tx, &new(&alice, "ci", "h1")).await.expect("made");
    assert_eq!((token.user_name.as_str(), token.role, token.last_used_at), ("alice", Role::Member, None));
    assert!(matches!(
        tokens::insert(&mut tx, &new(&alice, "ci", "h2")).await,
        Err(StoreError::Taken("name"))
    ));
    tokens::insert(&mut tx, &new(&bob, "ci", "h3")).await.expect("another user's name");
    tokens::touch(&mut tx, &token.id, Timestamp(7)).await.expect("there");
    let (found, of) = tokens::find(&mut tx, "h1", NOW).await.expect("reads").expect("there");
    assert_eq!((found.last_used_at, of), (Some(Timestamp(7)), alice.clone()));
    assert!(
        tokens::find(&mut tx, "h1", Timestamp(NOW.0 + 1)).await.expect("reads").is_none(),
        "it has ended"
    );
    assert_eq!(tokens::list(&mut tx, None, &PageRequest::whole()).await.expect("reads").items.len(), 2);
    assert_eq!(
        tokens::list(&mut tx, Some(&bob.id), &PageRequest::whole()).await.expect("reads").items.len(),
        1
    );
    assert!(matches!(
        tokens::delete(&mut tx, Some(&bob.id), &token.id).await,
        Err(StoreError::NotFound("token"))
    ));

    assert!(matches!(
        wharf_store::tenants::delete(&mut tx, &blue.id).await,
        Err(StoreError::InUse("tenant"))
    ));
    users::delete(&mut tx, &alice.id).await.expect("there");
    assert_eq!(sessions::find(&mut tx, "d", Timestamp(0)).await.expect("reads"), None);
    assert!(tokens::find(&mut tx, "h1", NOW).await.expect("reads").is_none());
    assert_eq!(tokens::purge(&mut tx, Timestamp(NOW.0 + 1)).await.expect("purges"), 1);
    tx.commit().await.expect("committed");
}
