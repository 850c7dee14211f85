//! Users and sessions: who called lately, everything one of them did, and a session as the conversation it was.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;
use flywheel_core::call::{Call, CallStatus};
use flywheel_core::feedback::Feedback;
use flywheel_storage::events::{CallFilter, CallSummary};
use flywheel_storage::page::PageRequest;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Frame, PageResult, page};
use super::call::opinion_value;
use super::calls::{CallRow, CallRows};
use super::form::{PagePath, PageQuery, given, page_request};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::api::calls::{cursor_of, parse_cursor};
use crate::context::Context;
use crate::problem::{ApiResult, Problem};

/// How many calls a list of users or sessions is made from.
const CALLS: u32 = 300;

/// How many calls of one user or session a page shows.
const SHOWN: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PeopleQuery {
    /// Somebody by name.
    #[serde(deserialize_with = "given")]
    name: Option<String>,
    #[serde(deserialize_with = "given")]
    cursor: Option<String>,
}

/// By what calls are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Users,
    Sessions,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::Users => "Users",
            Self::Sessions => "Sessions",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Users => "user",
            Self::Sessions => "session",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Users => "/users",
            Self::Sessions => "/sessions",
        }
    }

    fn name_of(self, call: &CallSummary) -> Option<&str> {
        match self {
            Self::Users => call.facts.unit.as_deref(),
            Self::Sessions => call.facts.session.as_deref(),
        }
    }

    /// Calls of one of them.
    fn filter(self, visitor: &Visitor, name: &str) -> CallFilter {
        let (unit, session) = match self {
            Self::Users => (Some(name.to_owned()), None),
            Self::Sessions => (None, Some(name.to_owned())),
        };
        CallFilter {
            apps: visitor.caller.apps().to_vec(),
            unit,
            session,
            ..CallFilter::default()
        }
    }
}

/// A user or a session, from the calls that were looked at.
struct Group {
    name: String,
    href: String,
    calls: u64,
    failed: u64,
    apps: BTreeSet<String>,
    /// The sessions of a user, or the users of a session.
    others: BTreeSet<String>,
    first: Timestamp,
    last: Timestamp,
    cost_nano_usd: i64,
    shown: Shown,
}

/// What a row says in words.
#[derive(Default)]
struct Shown {
    last: Markup,
    span: String,
    cost: String,
    apps: String,
    others: String,
}

impl Group {
    fn new(kind: Kind, name: &str, call: &CallSummary) -> Self {
        Self {
            name: name.to_owned(),
            href: format!("{}/{}", kind.path(), encoded(name)),
            calls: 0,
            failed: 0,
            apps: BTreeSet::new(),
            others: BTreeSet::new(),
            first: call.started_at,
            last: call.started_at,
            cost_nano_usd: 0,
            shown: Shown::default(),
        }
    }

    fn add(&mut self, kind: Kind, call: &CallSummary) {
        let facts = &call.facts;
        self.calls += 1;
        self.failed += u64::from(facts.status != CallStatus::Ok);
        self.apps
            .extend(facts.app.as_ref().map(ToString::to_string));
        let other = match kind {
            Kind::Users => facts.session.clone(),
            Kind::Sessions => facts.unit.clone(),
        };
        self.others.extend(other);
        self.first = self.first.min(call.started_at);
        self.last = self.last.max(call.started_at);
        self.cost_nano_usd = self
            .cost_nano_usd
            .saturating_add(facts.cost_nano_usd.unwrap_or(0));
    }

    fn finish(&mut self, kind: Kind, now: Timestamp) {
        let lasted = self.last.duration_since(self.first);
        let some: Vec<_> = self.apps.iter().take(3).map(String::as_str).collect();
        self.shown = Shown {
            last: show::when(self.last, now),
            span: match lasted.as_secs() {
                0 => String::new(),
                seconds @ 1..60 => format!("{seconds} s"),
                seconds @ 60..3600 => format!("{} min", seconds / 60),
                seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
                seconds => format!("{} d", seconds / 86_400),
            },
            cost: show::dollars(self.cost_nano_usd),
            apps: some.join(", "),
            others: match (kind, self.others.first()) {
                (Kind::Sessions, Some(user)) if self.others.len() == 1 => user.clone(),
                _ => show::count(self.others.len() as u64),
            },
        };
    }
}

/// Groups in the order in which each was seen last.
fn group(kind: Kind, calls: &[CallSummary], now: Timestamp) -> Vec<Group> {
    let mut places = std::collections::HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for call in calls {
        let Some(name) = kind.name_of(call) else {
            continue;
        };
        let place = *places.entry(name).or_insert_with(|| {
            groups.push(Group::new(kind, name, call));
            groups.len() - 1
        });
        groups[place].add(kind, call);
    }
    for group in &mut groups {
        group.finish(kind, now);
    }
    groups
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePage {
    frame: Frame,
    kind: Kind,
    name: String,
    groups: Vec<Group>,
    looked_at: String,
    next: Option<String>,
}

/// `GET /users`
pub(super) async fn list_users(
    state: State<Context>,
    visitor: Visitor,
    query: PageQuery<PeopleQuery>,
) -> PageResult {
    list(state.0, visitor, query.0, Kind::Users).await
}

/// `GET /sessions`
pub(super) async fn list_sessions(
    state: State<Context>,
    visitor: Visitor,
    query: PageQuery<PeopleQuery>,
) -> PageResult {
    list(state.0, visitor, query.0, Kind::Sessions).await
}

async fn list(context: Context, visitor: Visitor, query: PeopleQuery, kind: Kind) -> PageResult {
    let now = context.sources.clock.now();
    let filter = match &query.name {
        Some(name) => kind.filter(&visitor, name),
        None => CallFilter {
            apps: visitor.caller.apps().to_vec(),
            ..CallFilter::default()
        },
    };
    let request = page_request(query.cursor.as_deref(), parse_cursor, CALLS)?;
    let found = context.events.list_calls(&filter, request).await?;
    let next = found.next.as_ref().map(|key| {
        let name = query
            .name
            .as_deref()
            .map_or_else(String::new, |name| format!("&name={}", encoded(name)));
        format!("{}?cursor={}{name}", kind.path(), encoded(cursor_of(key)))
    });
    page(&PeoplePage {
        frame: Frame::new(&context, &visitor, kind.title(), "/calls"),
        kind,
        name: query.name.unwrap_or_default(),
        groups: group(kind, &found.items, now),
        looked_at: show::count(found.items.len() as u64),
        next,
    })
}

struct Opinion {
    call: String,
    kind: &'static str,
    value: Markup,
    when: Markup,
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    frame: Frame,
    name: String,
    calls: String,
    is_cut: bool,
    failed: u64,
    cost: String,
    first: Markup,
    last: Markup,
    /// `experiment/arm`, each once.
    arms: BTreeSet<String>,
    sessions: Vec<Group>,
    opinions: Vec<Opinion>,
    rows: CallRows,
}

/// `GET /users/{unit}`
pub(super) async fn show_user(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<String>,
) -> PageResult {
    let now = context.sources.clock.now();
    let filter = Kind::Users.filter(&visitor, &name);
    let found = context
        .events
        .list_calls(&filter, PageRequest::first(CALLS))
        .await?;
    let calls = found.items;
    let Some(all) = group(Kind::Users, &calls, now).into_iter().next() else {
        return Err(Problem::not_found(format!("no call of the user `{name}` is known"))
            .hint("the app names its users with `user` in its requests; calls may have been removed by retention")
            .into());
    };
    let rated = CallFilter {
        feedback: Some("any".to_owned()),
        // A name that all share has any number of calls; these are those the page is about.
        since: Some(all.first),
        ..filter
    };
    let rated = context
        .events
        .list_calls(&rated, PageRequest::first(SHOWN / 2))
        .await?;
    let mut opinions = Vec::new();
    for call in &rated.items {
        for piece in context.events.feedback_on(&call.id).await? {
            opinions.push(opinion(&piece, now));
        }
    }
    let arms = calls.iter().filter_map(|call| {
        let (experiment, arm) = (call.facts.experiment.as_ref()?, call.facts.arm.as_ref()?);
        Some(format!("{experiment}/{arm}"))
    });
    let shown = &calls[..calls.len().min(SHOWN as usize)];
    page(&UserPage {
        frame: Frame::new(&context, &visitor, "User", "/calls"),
        name,
        calls: show::count(all.calls),
        is_cut: found.next.is_some(),
        failed: all.failed,
        cost: all.shown.cost,
        first: show::when(all.first, now),
        last: all.shown.last,
        arms: arms.collect(),
        sessions: group(Kind::Sessions, &calls, now),
        opinions,
        rows: CallRows {
            rows: CallRow::all(&context, shown).await?,
        },
    })
}

fn opinion(piece: &Feedback, now: Timestamp) -> Opinion {
    Opinion {
        call: piece.call_id.clone(),
        kind: piece.body.kind(),
        value: opinion_value(&piece.body),
        when: show::when(piece.created_at, now),
    }
}

/// A question and its answer.
struct Turn {
    id: String,
    when: Markup,
    version: String,
    status: &'static str,
    asked: Option<Markup>,
    answered: Option<Markup>,
    error: Option<Markup>,
    opinions: Vec<Opinion>,
}

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    frame: Frame,
    name: String,
    users: BTreeSet<String>,
    turns: Vec<Turn>,
    is_cut: bool,
}

/// `GET /sessions/{session}`
pub(super) async fn show_session(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<String>,
) -> PageResult {
    let now = context.sources.clock.now();
    let filter = Kind::Sessions.filter(&visitor, &name);
    let found = context
        .events
        .list_calls(&filter, PageRequest::first(SHOWN))
        .await?;
    if found.items.is_empty() {
        return Err(
            Problem::not_found(format!("no call of the session `{name}` is known"))
                .hint("the app names a session with `flywheel.session` in its requests; calls may have been removed by retention")
                .into(),
        );
    }
    let rows = CallRow::all(&context, &found.items).await?;
    let mut turns = Vec::with_capacity(rows.len());
    for (summary, row) in found.items.iter().zip(rows).rev() {
        turns.push(turn(&context, summary, row, now).await?);
    }
    let users = found
        .items
        .iter()
        .filter_map(|call| call.facts.unit.clone());
    page(&SessionPage {
        frame: Frame::new(&context, &visitor, "Session", "/calls"),
        name,
        users: users.collect(),
        turns,
        is_cut: found.next.is_some(),
    })
}

async fn turn(
    context: &Context,
    summary: &CallSummary,
    row: CallRow,
    now: Timestamp,
) -> ApiResult<Turn> {
    let call = context.events.get_call(&summary.id).await?;
    let feedback = context.events.feedback_on(&summary.id).await?;
    let text = |text: &str| show::text_up_to(text, 4000);
    Ok(Turn {
        id: row.id,
        when: row.when,
        version: row.version,
        status: row.status,
        asked: call.as_ref().and_then(last_asked).as_deref().map(text),
        answered: call
            .as_ref()
            .and_then(|call| call.content.output.as_deref())
            .map(text),
        error: call
            .as_ref()
            .and_then(|call| call.content.error.as_deref())
            .map(text),
        opinions: feedback.iter().map(|piece| opinion(piece, now)).collect(),
    })
}

/// The last message that is a user's: what came before it was said in earlier turns.
fn last_asked(call: &Call) -> Option<String> {
    let messages = call.content.messages.iter().rev();
    let mut asked =
        messages.filter(|message| message.get("role").and_then(Value::as_str) == Some("user"));
    let content = asked.next()?.get("content")?;
    Some(match content {
        Value::String(text) => text.clone(),
        parts => parts.to_string(),
    })
}
