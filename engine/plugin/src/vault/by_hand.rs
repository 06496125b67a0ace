//! Migrations by hand: the old value is read as a copy of its old type, and this reading must lose nothing.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::MigrateFrom;
use crate::{
    Error, Result,
    value::{read_json, to_json},
};

/// Makes a new value from the JSON of an old one.
pub(super) fn migrate<Old, T>(json: &str) -> Result<T>
where
    Old: Serialize + DeserializeOwned,
    T: MigrateFrom<Old>,
{
    let old: Old = read_json(json)?;
    let (before, read): (Value, Value) = (read_json(json)?, read_json(&to_json(&old)?)?);
    if let Some(what) = difference(&before, &read) {
        let name = std::any::type_name::<Old>();
        return Err(Error::msg(format_args!("`{name}` does not match the old value: {what}")));
    }
    T::migrate(old)
}

/// The first difference between the old value and what was read of it; `None` if all of it was read.
fn difference(before: &Value, read: &Value) -> Option<String> {
    match (before, read) {
        (Value::Object(before), Value::Object(read)) => {
            if let Some(lost) = before.keys().find(|key| !read.contains_key(*key)) {
                return Some(format!("it has no `{lost}`"));
            }
            if let Some(added) = read.keys().find(|key| !before.contains_key(*key)) {
                return Some(format!("the old value has no `{added}`"));
            }
            before.iter().find_map(|(key, before)| {
                let what = difference(before, read.get(key)?)?;
                Some(format!("in `{key}`, {what}"))
            })
        }
        (Value::Array(before), Value::Array(read)) if before.len() == read.len() => {
            before.iter().zip(read).find_map(|(before, read)| difference(before, read))
        }
        _ if before == read => None,
        _ => Some(format!("{before} was read as {read}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unread_part_is_reported_with_its_place() {
        let told = |before, read| difference(&before, &read);
        let old = json!({ "name": "Ada", "places": [{ "x": 1, "y": 2.5 }] });
        assert_eq!(told(old.clone(), old.clone()), None);
        let no_name = json!({ "places": [{ "x": 1, "y": 2.5 }] });
        assert_eq!(told(old.clone(), no_name.clone()).unwrap(), "it has no `name`");
        assert_eq!(told(no_name, old.clone()).unwrap(), "the old value has no `name`");
        let moved = json!({ "name": "Ada", "places": [{ "x": 1, "y": 2 }] });
        assert_eq!(told(old, moved).unwrap(), "in `places`, in `y`, 2.5 was read as 2");
        assert_eq!(told(json!([1, 2]), json!([1])).unwrap(), "[1,2] was read as [1]");
    }
}
