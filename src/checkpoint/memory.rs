//! A store without a disk, for simulations: what it held at any commit can be had again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::Value;
use super::staged::Changes;

/// What a store in memory holds. Clones are the same one; it outlives the store.
#[derive(Clone, Default)]
pub struct Image(Arc<Mutex<Held>>);

#[derive(Clone, Default)]
struct Held {
    values: BTreeMap<Value, Value>,
    /// What each commit replaced, the newest last.
    replaced: Vec<Replaced>,
    /// The same of what is applied and not durable.
    unsynced: Replaced,
}

/// Former values, in the order in which they were replaced.
type Replaced = Vec<(Value, Option<Value>)>;

impl Image {
    /// A copy of what was durable before the newest so many commits.
    pub fn before(&self, commits: usize) -> Image {
        let mut held = self.held().clone();
        let mut lost = held.replaced.split_off(held.replaced.len().saturating_sub(commits));
        lost.push(std::mem::take(&mut held.unsynced));
        for (key, former) in lost.into_iter().flatten().rev() {
            match former {
                Some(former) => held.values.insert(key, former),
                None => held.values.remove(&key),
            };
        }
        Image(Arc::new(Mutex::new(held)))
    }

    /// Durable commits so far.
    pub fn commits(&self) -> usize {
        self.held().replaced.len()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Value> {
        self.held().values.get(key).cloned()
    }

    pub(super) fn scan(&self, prefix: &[u8]) -> Vec<(Value, Value)> {
        let held = self.held();
        let from = held.values.range(Value::from(prefix)..);
        let within = from.take_while(|(key, _)| key.starts_with(prefix));
        within.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(super) fn apply(&self, changes: Changes) {
        let mut held = self.held();
        for (key, value) in changes {
            let key = Value::from(key);
            let former = match value {
                Some(value) => held.values.insert(key.clone(), Value::from(value)),
                None => held.values.remove(&key),
            };
            held.unsynced.push((key, former));
        }
    }

    pub(super) fn sync(&self) {
        let mut held = self.held();
        let replaced = std::mem::take(&mut held.unsynced);
        held.replaced.push(replaced);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_durable_can_be_had_again() {
        let image = Image::default();
        let put = |key: &str, value: &str| {
            image.apply([(key.into(), Some(value.into()))].into());
        };
        put("a", "1");
        image.sync();
        put("a", "2");
        put("b", "2");
        image.sync();
        image.apply([(b"a".to_vec(), None)].into());
        let check = |image: &Image, expected: &str| {
            let held = image.scan(b"");
            let text = |value: &Value| String::from_utf8_lossy(value).into_owned();
            let held: Vec<_> = held.iter().map(|(k, v)| text(k) + "=" + &text(v)).collect();
            assert_eq!(held.join(" "), expected);
        };
        check(&image, "b=2");
        check(&image.before(0), "a=2 b=2");
        check(&image.before(1), "a=1");
        check(&image.before(2), "");
        check(&image.before(9), "");
    }
}
