use super::*;

use futures_util::FutureExt;
use http::HeaderValue;
use http::uri::PathAndQuery;
use nix::time::ClockId;

use crate::mcp::cacheable::Change;

const PATIENCE: Duration = Duration::from_secs(5);

fn asked(partitions: &Partitions, id: &str, params: &str) -> Asked {
    let mut head = http::Request::new(()).into_parts().0;
    let version = HeaderValue::from_static("2026-07-28");
    head.headers.insert("mcp-protocol-version", version);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#);
    let target = PathAndQuery::from_static("/mcp");
    Asked {
        question: Question::read(&head, &target, body.as_bytes(), false).unwrap(),
        partitions: partitions.clone(),
        policy: config::Cache {
            stale_if_error: Duration::from_secs(60),
            ..config::Cache::default()
        },
    }
}

async fn miss(cache: &Arc<Cache>, asked: Asked) -> Ticket {
    match cache.find(asked, PATIENCE).await {
        Found::Miss(ticket) => ticket,
        Found::Answer(known) => panic!("a hit: {}", String::from_utf8_lossy(&known.body)),
    }
}

async fn hit(cache: &Arc<Cache>, asked: Asked) -> (String, Outcome) {
    match cache.find(asked, PATIENCE).await {
        Found::Answer(known) => (String::from_utf8(known.body).unwrap(), known.outcome),
        Found::Miss(_) => panic!("a miss"),
    }
}

fn answer(ticket: &mut Ticket, hints: &str) {
    let id = ticket.asked.question.id.clone();
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[],{hints}}}}}"#);
    assert!(ticket.saw(message.as_bytes(), Instant::now()));
}

const PUBLIC: &str = r#""ttlMs":60000,"cacheScope":"public""#;
const PRIVATE: &str = r#""ttlMs":60000,"cacheScope":"private""#;

/// Two credentials at one place.
fn neighbours() -> (Partitions, Partitions) {
    let one = Partitions::default();
    let other = Partitions {
        public: Arc::clone(&one.public),
        ..Partitions::default()
    };
    (one, other)
}

#[tokio::test]
async fn a_result_is_given_to_the_next_one_that_asks_the_same() {
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    answer(&mut miss(&cache, asked(&at, "1", "{}")).await, PRIVATE);
    let (body, outcome) = hit(&cache, asked(&at, "\"x\"", "{}")).await;
    assert!(body.starts_with(r#"{"jsonrpc":"2.0","id":"x","result":{"tools":[],"ttlMs":"#));
    assert_eq!(outcome, Outcome::Hit);
    miss(&cache, asked(&at, "1", r#"{"cursor":"2"}"#)).await;
}

#[tokio::test]
async fn only_what_is_public_is_shared_between_credentials() {
    let cache = Arc::new(Cache::new(1 << 20));
    let (one, other) = neighbours();
    answer(&mut miss(&cache, asked(&one, "1", "{}")).await, PRIVATE);
    answer(&mut miss(&cache, asked(&other, "1", "{}")).await, PUBLIC);
    hit(&cache, asked(&other, "1", "{}")).await;
    let third = Partitions {
        public: Arc::clone(&one.public),
        ..Partitions::default()
    };
    hit(&cache, asked(&third, "1", "{}")).await;
    // Elsewhere it is nobody's.
    miss(&cache, asked(&Partitions::default(), "1", "{}")).await;
    // Called private from now on: nobody else is given the public one any more.
    one.void(&Change::Tools);
    answer(&mut miss(&cache, asked(&third, "1", "{}")).await, PRIVATE);
    miss(&cache, asked(&one, "1", "{}")).await;
}

#[tokio::test]
async fn what_changes_while_it_is_asked_for_is_not_kept() {
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let mut ticket = miss(&cache, asked(&at, "1", "{}")).await;
    at.void(&Change::Tools);
    answer(&mut ticket, PRIVATE);
    answer(&mut miss(&cache, asked(&at, "1", "{}")).await, PRIVATE);
    at.void(&Change::Prompts);
    hit(&cache, asked(&at, "1", "{}")).await;
}

#[tokio::test]
async fn all_who_ask_the_same_at_once_get_one_answer() {
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let mut first = miss(&cache, asked(&at, "1", "{}")).await;
    let others = (0..50).map(|id| hit(&cache, asked(&at, &id.to_string(), "{}")).boxed_local());
    let mut others = futures_util::future::join_all(others).boxed_local();
    assert!(futures_util::poll!(&mut others).is_pending());
    answer(&mut first, PRIVATE);
    for (id, (body, outcome)) in others.await.into_iter().enumerate() {
        assert!(body.contains(&format!(r#""id":{id},"#)), "{body}");
        assert_eq!(outcome, Outcome::Collapsed);
    }
}

#[tokio::test]
async fn who_leaves_passes_the_duty_on_and_what_is_not_for_keeping_keeps_nobody_waiting() {
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let first = miss(&cache, asked(&at, "1", "{}")).await;
    let mut second = miss(&cache, asked(&at, "2", "{}")).boxed_local();
    let mut third = miss(&cache, asked(&at, "3", "{}")).boxed_local();
    assert!(futures_util::poll!(&mut second).is_pending());
    assert!(futures_util::poll!(&mut third).is_pending());
    drop(first);
    let mut second = second.await;
    assert!(futures_util::poll!(&mut third).is_pending());
    answer(&mut second, r#""ttlMs":0"#);
    third.await;
    // Known to be not for keeping: two ask at once, and neither waits.
    let one = miss(&cache, asked(&at, "4", "{}")).await;
    let mut other = miss(&cache, asked(&at, "5", "{}")).await;
    drop(one);
    answer(&mut other, PRIVATE);
    hit(&cache, asked(&at, "6", "{}")).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_its_own_patience() {
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let _first = miss(&cache, asked(&at, "1", "{}")).await;
    let begun = tokio::time::Instant::now();
    miss(&cache, asked(&at, "2", "{}")).await;
    assert_eq!(begun.elapsed(), PATIENCE);
}

#[tokio::test]
async fn a_stale_result_stands_in_until_it_is_void() {
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let mut ticket = miss(&cache, asked(&at, "1", "{}")).await;
    assert!(ticket.stand_in(Instant::now()).is_none());
    answer(&mut ticket, r#""ttlMs":1"#);
    std::thread::sleep(Duration::from_millis(2));
    let ticket = miss(&cache, asked(&at, "9", "{}")).await;
    let stale = String::from_utf8(ticket.stand_in(Instant::now()).unwrap().body).unwrap();
    assert_eq!(
        stale,
        r#"{"jsonrpc":"2.0","id":9,"result":{"tools":[],"ttlMs":0}}"#
    );
    let later = Instant::now() + Duration::from_secs(61);
    assert!(ticket.stand_in(later).is_none());
    at.void(&Change::Tools);
    assert!(ticket.stand_in(Instant::now()).is_none());
}

#[tokio::test]
async fn a_hit_takes_microseconds_of_its_thread() {
    const ROUNDS: u32 = 2000;
    /// An unoptimised build is allowed so many times what is promised.
    const ALLOWANCE: u32 = if cfg!(debug_assertions) { 10 } else { 1 };
    let (cache, at) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let tools = format!(r#""text":"{}",{PRIVATE}"#, "a".repeat(10_000));
    answer(&mut miss(&cache, asked(&at, "1", "{}")).await, &tools);
    let cpu = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
    let begun = cpu();
    for _ in 0..ROUNDS {
        hit(&cache, asked(&at, "1", "{}")).await;
    }
    let each = (cpu() - begun) / ROUNDS;
    eprintln!("figure: CPU of a hit on 10 kB, without HTTP: {each:?}");
    assert!(each < ALLOWANCE * Duration::from_micros(30), "{each:?}");
}
