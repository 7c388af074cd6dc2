use std::collections::HashSet;

use prost::Message;
use proto::identity::v1::*;

use crate::world::{World, fields, registration};

async fn named(world: &World, first: &str, last: &str, email: &str) -> User {
    let request = RegisterRequest {
        first_name: first.to_owned(),
        last_name: last.to_owned(),
        ..registration(email)
    };
    world.register_with(request).await.unwrap()
}

fn ids(reply: &SearchUsersResponse) -> HashSet<String> {
    reply.users.iter().map(|user| user.id.clone()).collect()
}

#[tokio::test]
async fn people_are_found_by_handle_name_and_whole_address() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let asa = named(&world, "Åsa", "Öberg", "Asa.Oberg@example.org").await;
    let bob = named(&world, "Bob", "Osbåsa", "bob@example.org").await;
    let access = &tokens.access_token;
    for (query, expected) in [
        (asa.handle.to_lowercase(), vec![&asa.id]),
        ("åS".to_owned(), vec![&asa.id]),
        ("ÅSA ÖB".to_owned(), vec![&asa.id]),
        ("öbe".to_owned(), vec![&asa.id]),
        ("OSB".to_owned(), vec![&bob.id]),
        ("båsa".to_owned(), vec![]),
        ("asa.oberg@EXAMPLE.org".to_owned(), vec![&asa.id]),
        ("oberg@example.org".to_owned(), vec![]),
        ("nobody".to_owned(), vec![]),
    ] {
        let found = world.search(access, &query, 0, "").await.unwrap();
        assert_eq!(
            ids(&found),
            expected.into_iter().cloned().collect(),
            "{query}"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn no_answer_ever_holds_an_address() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    named(&world, "Bela", "Rao", "bela.secret@example.org").await;
    for query in ["bela.secret@example.org", "bela", "rao"] {
        let found = world
            .search(&tokens.access_token, query, 0, "")
            .await
            .unwrap();
        assert_eq!(found.users.len(), 1);
        let wire = String::from_utf8_lossy(&found.encode_to_vec()).to_lowercase();
        assert!(!wire.contains("secret") && !wire.contains('@'), "{query}");
    }
    world.end().await;
}

#[tokio::test]
async fn one_does_not_find_oneself() {
    let world = World::start().await;
    let (user, tokens) = world.member("asha@example.org").await;
    for query in [&user.handle, &user.email, &user.first_name] {
        let found = world
            .search(&tokens.access_token, query, 0, "")
            .await
            .unwrap();
        assert!(found.users.is_empty(), "{query}");
    }
    world.end().await;
}

#[tokio::test]
async fn pages_show_everybody_once() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let mut all = HashSet::new();
    for n in 0..11 {
        // Equal names too, so that the order needs the ids.
        let (last, email) = (format!("Name{}", n / 4), format!("u{n}@example.org"));
        all.insert(named(&world, "Same", &last, &email).await.id);
    }
    for n in 0..5 {
        // Found by the family name; one by both, who is still one.
        let first = if n == 0 { "Samet" } else { "Other" };
        let email = format!("v{n}@example.org");
        all.insert(named(&world, first, "Samesen", &email).await.id);
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world
            .search(&tokens.access_token, "same", 3, &cursor)
            .await
            .unwrap();
        pages += 1;
        seen.extend(page.users.into_iter().map(|user| user.id));
        if page.next_cursor.is_empty() {
            break;
        }
        cursor = page.next_cursor;
    }
    assert_eq!((pages, seen.len()), (6, 16));
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), all);
    world.end().await;
}

#[tokio::test]
async fn wildcards_and_quotes_are_only_characters() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    named(&world, "Bela", "Rao", "bela@example.org").await;
    let odd = named(&world, "100%_\\", "O'Brien", "odd@example.org").await;
    for query in ["%%", "__", "be%a", "b_la", "' OR 1=1 --"] {
        let found = world
            .search(&tokens.access_token, query, 0, "")
            .await
            .unwrap();
        assert!(found.users.is_empty(), "{query}");
    }
    for query in ["100%_", "100%_\\ o", "o'b"] {
        let found = world
            .search(&tokens.access_token, query, 0, "")
            .await
            .unwrap();
        assert_eq!(ids(&found), [odd.id.clone()].into(), "{query}");
    }
    world.end().await;
}

#[tokio::test]
async fn bad_queries_are_refused_by_name() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let long = "x".repeat(255);
    let null = platform::page::encode_cursor(&(false, "a\0b", uuid::Uuid::nil()));
    for (query, limit, cursor, field) in [
        ("", 0, "", "query"),
        ("a", 0, "", "query"),
        (long.as_str(), 0, "", "query"),
        ("a\0b", 0, "", "query"),
        ("asha", 101, "", "limit"),
        ("asha", -1, "", "limit"),
        ("asha", 0, "nonsense", "cursor"),
        ("asha", 0, null.as_str(), "cursor"),
    ] {
        let error = world
            .search(&tokens.access_token, query, limit, cursor)
            .await
            .unwrap_err();
        assert_eq!(fields(&error), [field], "{query:?} {limit} {cursor:?}");
    }
    world.end().await;
}
