//! Tenants never meet: what is another tenant's does not exist, byte for byte.

use std::time::Instant;

use reqwest::{Method, Response};
use serde_json::json;
use strongroom::storage::sealed_columns::{decode_fields, decode_seals};

use crate::support::samples::{NOBODY, message, small_patient};
use crate::support::{Client, Strongroom, request_id};

#[tokio::test]
async fn another_tenants_record_is_answered_as_one_that_never_was() {
    let strongroom = Strongroom::start().await;
    let north = strongroom.client("portal").await.with_purpose("PATRQT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("PATRQT");
    let patient = north.create_patient(small_patient()).await;
    let letter = north.create("messages", &message(&patient)).await;
    let letter = letter["id"].as_str().unwrap();

    for (method, query) in [
        (Method::GET, ""),
        (Method::GET, "?view=masked"),
        (Method::GET, "?fields=body"),
        (Method::PATCH, ""),
        (Method::DELETE, ""),
    ] {
        let ask = async |id: &str| {
            let request = south.request(method.clone(), &format!("/api/v1/messages/{id}{query}"));
            let request = match method {
                Method::PATCH => {
                    request.header("if-match", "\"1\"").json(&json!({ "fields": { "read": true } }))
                }
                _ => request,
            };
            request.send().await.unwrap()
        };
        let theirs = ask(letter).await;
        let request = request_id(&theirs);
        let never = ask(NOBODY).await;
        assert_eq!(theirs.status(), 404);
        assert_eq!(whole(theirs).await, whole(never).await, "{method}{query}");
        // An id that cannot be is answered like one that is not.
        assert_eq!(whole(ask("NO-SUCH-ID").await).await, whole(ask(NOBODY).await).await);
        // On record in the tenant of who asked.
        let entry = strongroom.entry_of(&request).await;
        assert_eq!(entry["tenant"], "0197a000-0000-7000-8000-00000000c002");
        assert_eq!(entry["out"], json!({ "status": "failed", "code": "record_not_found" }));
        assert_eq!(entry["obj"], json!([{ "collection": "messages", "record": letter }]));
        assert_eq!(entry.get("subj"), None);
    }
    // Untouched, and still there for its owner.
    assert_eq!(north.read(&format!("/api/v1/messages/{letter}")).await.1, "\"1\"");
}

/// Nor does the time of the answer tell: asked in turn, the two middles are as near as two middles of the same question.
#[tokio::test]
async fn another_tenants_record_takes_no_other_time_than_one_that_never_was() {
    const ROUNDS: usize = 600;
    let strongroom = Strongroom::start().await;
    let north = strongroom.client("portal").await.with_purpose("TREAT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let theirs = format!("/api/v1/patients/{}", north.create_patient(small_patient()).await);
    let never = format!("/api/v1/patients/{NOBODY}");
    let mut times = [const { Vec::new() }; 2];
    for round in 0..2 * ROUNDS {
        let path = [&theirs, &never][round % 2];
        let begun = Instant::now();
        let answer = south.get(path).await;
        assert_eq!(answer.status(), 404);
        answer.bytes().await.unwrap();
        times[round % 2].push(begun.elapsed());
    }
    let [theirs, never] = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64()
    });
    // A row that is found, a key that is fetched or a seal that is opened costs half as much again, and more.
    assert!((0.8..1.25).contains(&(theirs / never)), "{theirs} s to {never} s");
}

#[tokio::test]
async fn a_record_is_in_one_collection() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let patient = portal.create_patient(small_patient()).await;
    let elsewhere = portal.get(&format!("/api/v1/messages/{patient}")).await;
    let never = portal.get(&format!("/api/v1/messages/{NOBODY}")).await;
    assert_eq!((elsewhere.status().as_u16(), whole(elsewhere).await), (404, whole(never).await));
}

#[tokio::test]
async fn two_tenants_keep_the_same_person_apart() {
    let strongroom = Strongroom::start().await;
    let tenants: [Client; 2] = [
        strongroom.client("portal").await.with_purpose("TREAT"),
        strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT"),
    ];
    let mut ids = Vec::new();
    for client in &tenants {
        ids.push(client.create_patient(small_patient()).await);
    }
    for (client, [own, other]) in tenants.iter().zip([[&ids[0], &ids[1]], [&ids[1], &ids[0]]]) {
        assert_eq!(client.read(&format!("/api/v1/patients/{own}")).await.0["fields"], small_patient());
        assert_eq!(client.get(&format!("/api/v1/patients/{other}")).await.status(), 404);
    }
    // Nothing that is stored is equal: not a sealed value, not a header.
    let rows =
        strongroom.data().await.query("SELECT seal_headers, sealed_values FROM record", &[]).await.unwrap();
    let mut parts = std::collections::BTreeSet::new();
    for row in &rows {
        parts.extend(decode_seals(row.get(0)).unwrap().into_iter().map(|seal| seal.header.to_vec()));
        parts.extend(decode_fields(row.get(1)).unwrap().into_iter().map(|field| field.bytes.to_vec()));
    }
    assert_eq!(parts.len(), 2 * (4 + 1));
}

/// Everything of an answer but the request's id and the time.
async fn whole(answer: Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut headers: Vec<(String, String)> = answer
        .headers()
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (answer.status().as_u16(), headers, answer.bytes().await.unwrap().to_vec())
}
