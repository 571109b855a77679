//! The watcher on a real directory: everything that can happen to it wakes the reader, and
//! reading does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pecsync::config::read_dir_files;
use pecsync::config::watcher::Watcher;
use tempfile::TempDir;
use tokio::time::timeout;

/// Long enough for the quiet period on a busy machine, far from the re-read after 60 s.
const SOON: Duration = Duration::from_secs(40);

struct Place {
    _etc: TempDir,
    dir: PathBuf,
    watcher: Watcher,
}

impl Place {
    async fn new() -> Place {
        Place::prepared(|_| {}).await
    }

    async fn prepared(prepare: impl FnOnce(&Path)) -> Place {
        let etc = tempfile::tempdir().unwrap();
        let dir = etc.path().join("conf.d");
        fs::create_dir(&dir).unwrap();
        prepare(&dir);
        let mut watcher = Watcher::new(dir.clone()).await;
        assert_eq!(watcher.take_failure(), None);
        Place { _etc: etc, dir, watcher }
    }

    #[track_caller]
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Something happened; the reader is told, and then left alone again.
    async fn wakes(&mut self, what: &str) {
        let woken = timeout(SOON, self.watcher.changed()).await;
        assert!(woken.is_ok(), "nobody said: {what}");
        read_dir_files(&self.dir);
    }

    async fn is_silent(&mut self, what: &str) {
        let woken = timeout(Duration::from_millis(900), self.watcher.changed()).await;
        assert!(woken.is_err(), "woken by: {what}");
    }
}

#[tokio::test]
async fn files_dropped_in_every_way() {
    let mut place = Place::new().await;
    place.is_silent("nothing").await;

    fs::write(place.path("a.toml"), "x").unwrap();
    place.wakes("a new file").await;
    fs::write(place.path("a.toml"), "y").unwrap();
    place.wakes("a file written again").await;
    place.is_silent("its reading").await;

    fs::write(place.path(".b.tmp"), "x").unwrap();
    place.wakes("a hidden file").await;
    fs::rename(place.path(".b.tmp"), place.path("b.toml")).unwrap();
    place.wakes("a rename").await;

    fs::write(place.dir.parent().unwrap().join("c"), "x").unwrap();
    place.is_silent("a file beside conf.d").await;
    fs::rename(place.dir.parent().unwrap().join("c"), place.path("c.toml")).unwrap();
    place.wakes("a file moved in").await;
    fs::rename(place.path("c.toml"), place.dir.parent().unwrap().join("c")).unwrap();
    place.wakes("a file moved out").await;
    fs::remove_file(place.path("a.toml")).unwrap();
    place.wakes("a file removed").await;

    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(place.path("b.toml"), permissions).unwrap();
    place.wakes("permissions mended").await;
}

#[tokio::test]
async fn reading_wakes_nobody() {
    let mut place = Place::prepared(|dir| {
        (0..50).for_each(|n| fs::write(dir.join(format!("{n}.toml")), "x").unwrap());
    })
    .await;
    assert_eq!(read_dir_files(&place.dir).len(), 50);
    place.is_silent("reading").await;
}

#[tokio::test]
async fn subdirectories() {
    let mut place = Place::prepared(|dir| fs::create_dir(dir.join("old")).unwrap()).await;
    fs::write(place.path("old/a.toml"), "x").unwrap();
    place.wakes("a file in a directory").await;
    fs::create_dir(place.path("new")).unwrap();
    place.wakes("a new directory").await;
    fs::write(place.path("new/a.toml"), "x").unwrap();
    place.wakes("a file in a new directory").await;
    // Replaced under its name: the old watch sees nothing of it.
    fs::create_dir(place.dir.parent().unwrap().join("newer")).unwrap();
    fs::remove_dir_all(place.path("new")).unwrap();
    fs::rename(place.dir.parent().unwrap().join("newer"), place.path("new")).unwrap();
    place.wakes("a directory replaced").await;
    fs::write(place.path("new/b.toml"), "x").unwrap();
    place.wakes("a file in the replaced directory").await;
}

#[tokio::test]
async fn the_directory_itself_is_replaced() {
    let mut place = Place::new().await;
    let parent = place.dir.parent().unwrap().to_owned();
    fs::create_dir(parent.join("next")).unwrap();
    fs::rename(&place.dir, parent.join("previous")).unwrap();
    fs::rename(parent.join("next"), &place.dir).unwrap();
    place.wakes("conf.d replaced").await;
    fs::write(place.path("a.toml"), "x").unwrap();
    place.wakes("a file in the new conf.d").await;
    fs::write(parent.join("previous/a.toml"), "x").unwrap();
    place.is_silent("a file in the old conf.d").await;

    fs::remove_dir_all(&place.dir).unwrap();
    place.wakes("conf.d removed").await;
    fs::create_dir(&place.dir).unwrap();
    place.wakes("conf.d made again").await;
    fs::write(place.path("a.toml"), "x").unwrap();
    place.wakes("a file in it").await;
}

#[tokio::test]
async fn links_are_swapped() {
    let mut place = Place::prepared(|dir| {
        fs::create_dir(dir.join("..v1")).unwrap();
        fs::create_dir(dir.join("..v2")).unwrap();
        fs::write(dir.join("..v1/a.toml"), "x").unwrap();
        symlink("..v1", dir.join("..data")).unwrap();
        symlink("..data/a.toml", dir.join("a.toml")).unwrap();
    })
    .await;
    symlink("..v2", place.path("..tmp")).unwrap();
    fs::rename(place.path("..tmp"), place.path("..data")).unwrap();
    place.wakes("..data swapped").await;

    // conf.d itself is a link.
    let parent = place.dir.parent().unwrap().to_owned();
    fs::create_dir(parent.join("other")).unwrap();
    let mut watcher = Watcher::new(parent.join("link")).await;
    symlink("conf.d", parent.join("link")).unwrap();
    timeout(SOON, watcher.changed()).await.expect("the link appeared");
    symlink("other", parent.join("link2")).unwrap();
    fs::rename(parent.join("link2"), parent.join("link")).unwrap();
    timeout(SOON, watcher.changed()).await.expect("the link was swapped");
    fs::write(parent.join("other/a.toml"), "x").unwrap();
    timeout(SOON, watcher.changed()).await.expect("a file behind the new link");
}

/// How long it is waited for is the agenda's to decide (src/config/watcher.rs).
#[tokio::test]
async fn a_directory_that_never_rests_is_read_all_the_same() {
    let mut place = Place::new().await;
    let file = place.path("a.toml");
    let writer = tokio::spawn(async move {
        for n in 0.. {
            fs::write(&file, n.to_string()).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    for _ in 0..2 {
        place.wakes("noise").await;
    }
    writer.abort();
}

#[tokio::test]
async fn dropping_the_future_loses_nothing() {
    let mut place = Place::new().await;
    fs::write(place.path("a.toml"), "x").unwrap();
    for _ in 0..5 {
        let impatient = timeout(Duration::from_millis(20), place.watcher.changed()).await;
        assert!(impatient.is_err());
    }
    place.wakes("the file").await;
}

#[tokio::test]
async fn where_nothing_can_be_watched_it_is_read_every_five_seconds() {
    let etc = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::new(etc.path().join("not/there")).await;
    assert!(watcher.take_failure().is_some());
    assert_eq!(watcher.take_failure(), None);
    let start = Instant::now();
    watcher.changed().await;
    assert!((4..50).contains(&start.elapsed().as_secs()));
    assert_eq!(watcher.take_failure(), None);
}
