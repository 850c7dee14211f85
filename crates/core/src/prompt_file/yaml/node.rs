//! YAML nodes that remember where they stood, on their way to JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use super::join;

/// The top of a document knows the places of its parts; further down that would cost more stack than it is worth.
pub(super) type Document = Node<Node<Node<Node<Value>>>>;

/// A YAML node whose parts know their places.
pub(super) enum Node<T> {
    Scalar(Value),
    Items(Vec<Spanned<T>>),
    Members(Vec<(Spanned<String>, Spanned<T>)>),
}

pub(super) trait IntoValue {
    /// The node as JSON; `found` is told the path and the place of what is known of it.
    fn into_value(self, path: &str, found: &mut dyn FnMut(String, Location)) -> Value;
}

impl IntoValue for Value {
    fn into_value(self, _path: &str, _found: &mut dyn FnMut(String, Location)) -> Value {
        self
    }
}

impl<T: IntoValue> IntoValue for Node<T> {
    fn into_value(self, path: &str, found: &mut dyn FnMut(String, Location)) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::Items(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let path = format!("{path}[{index}]");
                    let value = item.value.into_value(&path, found);
                    found(path, item.referenced);
                    value
                })
                .collect(),
            Self::Members(members) => members
                .into_iter()
                .map(|(name, member)| {
                    let path = join(path, &name.value);
                    let value = member.value.into_value(&path, found);
                    found(path, name.referenced);
                    (name.value, value)
                })
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Node<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor(PhantomData))
    }
}

struct NodeVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NodeVisitor<T> {
    type Value = Node<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON can hold")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<T>, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<T>, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<T>, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node<T>, E> {
        Number::from_f64(value)
            .map(|number| Node::Scalar(number.into()))
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<T>, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node<T>, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node<T>, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<T>, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Node::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<T>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Members(members))
    }
}
