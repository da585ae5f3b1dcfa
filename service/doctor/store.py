"""What the doctor finds of the object store, where large files may be."""

from service.doctor.checks import Check, Status
from service.storage.doctor import FilesElsewhere
from service.storage.object_store import ObjectStore, ObjectStoreDown

SET_IT = "set SELFNORM_BLOB_URL, for every API and worker process, to the store in which they are"
ASKED_FOR = "selfnorm/doctor"
"""A key that nobody ever stores under; whether it is there tells nothing, that there is an answer does."""


def store_check(elsewhere: FilesElsewhere, store: ObjectStore | None) -> Check:
    """Check that what is in an object store can be read; one object is asked for, nothing is changed."""
    files = "1 file lies" if elsewhere.count == 1 else f"{elsewhere.count} files lie"
    if store is None and elsewhere.count:
        return Check("store", Status.PROBLEM, f"{files} in an object store, and no setting names one", SET_IT)
    if store is None:
        return Check("store", Status.OK, "every file is in the database")
    folder = store.folder
    if folder is not None and not folder.is_dir():
        status = Status.PROBLEM if elsewhere.count else Status.WARNING
        return Check(
            "store",
            status,
            f"{files} in {store.url}, and there is no such folder",
            "mount it, or correct SELFNORM_BLOB_URL",
        )
    try:
        is_there = store.has(elsewhere.key or ASKED_FOR)
    except ObjectStoreDown as error:
        return Check(
            "store",
            Status.PROBLEM,
            f"{store.url}: {error}",
            "start it, or correct SELFNORM_BLOB_URL and the credentials",
        )
    if elsewhere.key is not None and not is_there:
        detail = f"{store.url} answers and lacks a file that lies there by the database: {elsewhere.key}"
        return Check("store", Status.PROBLEM, detail, f"{SET_IT}, or restore them from a backup")
    return Check("store", Status.OK, f"{store.url} answers, {files} there")
